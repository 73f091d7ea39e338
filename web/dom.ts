/** Small means to build and update the page. Text only ever goes in as text; there is no way to put markup in. */

export type Child = Node | string | undefined

export interface Attributes {
  class?: string
  [name: string]: string | boolean | ((event: Event) => void) | undefined
}

/** An element with attributes, listeners (`onclick` and the like) and children; `true` sets an empty attribute. */
export function el<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name.slice(2), value)
    else if (value === true) element.setAttribute(name, '')
    else if (typeof value === 'string') element.setAttribute(name, value)
  }
  element.append(...children.filter((child) => child !== undefined))
  return element
}

/** A symbol of the sprite in index.html; decoration only. */
export function icon(name: string): SVGElement {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg')
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use')
  svg.setAttribute('class', 'icon')
  svg.setAttribute('aria-hidden', 'true')
  use.setAttribute('href', `#icon-${name}`)
  svg.append(use)
  return svg
}

/** The element of index.html with this id. */
export function byId<Tag extends keyof HTMLElementTagNameMap>(id: string, tag: Tag): HTMLElementTagNameMap[Tag] {
  const found = document.getElementById(id)
  if (found?.localName !== tag) throw new Error(`index.html has no <${tag} id="${id}">`)
  return found as HTMLElementTagNameMap[Tag]
}

export interface Item {
  key: string
  /** The element is built anew when this changes. */
  signature: string
  build(): HTMLElement
}

const signatures = new WeakMap<Element, string>()

/** Makes the children of `parent` those of `items`, in order, and touches only what has changed. Keeps the focus. */
export function reconcile(parent: HTMLElement, items: readonly Item[]): void {
  const present = new Map<string, HTMLElement>()
  for (const child of parent.children) if (child instanceof HTMLElement) present.set(child.dataset.key ?? '', child)
  let at: Element | null = parent.firstElementChild
  for (const { key, signature, build } of items) {
    const old = present.get(key)
    present.delete(key)
    let node = old
    if (node === undefined || signatures.get(node) !== signature) {
      node = build()
      node.dataset.key = key
      signatures.set(node, signature)
      if (old !== undefined) {
        const hadFocus = old.contains(document.activeElement)
        if (at === old) at = node
        old.replaceWith(node)
        if (hadFocus) (node.matches('button, a') ? node : node.querySelector<HTMLElement>('button, a'))?.focus()
      }
    }
    if (node === at) at = at.nextElementSibling
    else parent.insertBefore(node, at)
  }
  for (const gone of present.values()) gone.remove()
}

const hues = 8

/** A coloured disc with the first letter; the same name always has the same colour. `dot`: what a mark at its edge says. */
export function avatar(name: string, kind: 'user' | 'group', dot?: string): HTMLElement {
  let hash = 0
  for (const letter of name) hash = (hash * 31 + (letter.codePointAt(0) ?? 0)) >>> 0
  const content = kind === 'group' ? icon('group') : ([...name][0] ?? '?').toUpperCase()
  return el('span', { class: `avatar hue-${hash % hues}`, 'aria-hidden': 'true', 'data-dot': dot }, content)
}
