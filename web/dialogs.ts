/** The dialogs: begin a chat, make a group, see and change its members. Each shows what the server refuses in its own words. */
import type { ChatClient } from './chat-client.js'
import { CallError } from './connection.js'
import { avatar, byId, el, reconcile } from './dom.js'
import { type Address, type GroupMember, idPattern, idRule, sentence, userAddress } from './protocol.js'

export interface Dialogs {
  openMembers(client: ChatClient, conv: Address): void
  closeAll(): void
}

interface Dialog {
  open(): void
  /** Runs the task and shows why it failed; true when it did not. */
  attempt(task: () => Promise<unknown>): Promise<boolean>
  close(): void
}

/** A dialog whose form runs `submit`; it stays open with the reason when that throws a CallError. */
function createDialog(name: string, submit: (fields: FormData) => Promise<unknown>, closesOnSuccess: 'closes' | 'stays'): Dialog {
  const dialog = byId(`${name}-dialog`, 'dialog')
  const form = byId(`${name}-form`, 'form')
  const error = dialog.querySelector('.error') as HTMLElement
  const say = (text: string): void => {
    error.textContent = text
    error.hidden = text === ''
  }
  const attempt = async (task: () => Promise<unknown>): Promise<boolean> => {
    say('')
    try {
      await task()
      return true
    } catch (fault) {
      if (!(fault instanceof CallError)) throw fault
      say(sentence(fault.message))
      return false
    }
  }
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    void attempt(() => submit(new FormData(form))).then((isDone) => {
      if (!isDone) return
      form.reset()
      if (closesOnSuccess === 'closes') dialog.close()
    })
  })
  dialog.querySelector('.cancel')?.addEventListener('click', () => dialog.close())
  // A click on the backdrop is a click on the dialog itself.
  dialog.addEventListener('click', (event) => {
    if (event.target === dialog) dialog.close()
  })
  return {
    attempt,
    open() {
      form.reset()
      say('')
      dialog.showModal()
    },
    close: () => dialog.close(),
  }
}

function parseId(text: string): string {
  const id = text.trim()
  if (idPattern.test(id)) return id
  throw new CallError('invalid', `“${id}” is not a user id: that is ${idRule}.`)
}

const field = (fields: FormData, name: string): string => String(fields.get(name) ?? '').trim()

export function createDialogs(clientNow: () => ChatClient | undefined, choose: (conv: Address) => void): Dialogs {
  const chat = createDialog('chat', async (fields) => choose(userAddress(parseId(field(fields, 'peer')))), 'closes')
  const group = createDialog(
    'group',
    async (fields) => {
      const members = field(fields, 'members')
        .split(/[\s,;]+/)
        .filter((id) => id !== '')
        .map(parseId)
      const conv = await clientNow()?.groups.create(field(fields, 'name'), members)
      if (conv !== undefined) choose(conv)
    },
    'closes',
  )
  byId('new-chat', 'button').addEventListener('click', () => chat.open())
  byId('new-group', 'button').addEventListener('click', () => group.open())
  const members = createMembersDialog()
  return {
    openMembers: members.open,
    closeAll() {
      for (const dialog of [chat, group, members]) dialog.close()
    },
  }
}

function createMembersDialog(): { open(client: ChatClient, conv: Address): void; close(): void } {
  const list = byId('members', 'ul')
  let shown: { client: ChatClient; conv: Address } | undefined

  const dialog = createDialog(
    'members',
    async (fields) => {
      if (shown === undefined) return
      await shown.client.groups.add(shown.conv, [parseId(field(fields, 'user'))])
      await load()
    },
    'stays',
  )

  async function load(): Promise<void> {
    if (shown === undefined) return
    const { client, conv } = shown
    render(await client.groups.members(conv), client, conv)
  }

  function render(members: readonly GroupMember[], client: ChatClient, conv: Address): void {
    const myRole = members.find(({ user }) => user === client.me)?.role ?? 'member'
    byId('members-dialog-title', 'h2').textContent = `${members.length} ${members.length === 1 ? 'member' : 'members'}`
    byId('add-row', 'div').hidden = myRole === 'member'
    const remove = (user: string): void =>
      void dialog.attempt(async () => {
        await client.groups.remove(conv, user)
        await load()
      })
    reconcile(
      list,
      members.map((member) => memberItem(member, client.me, myRole, remove)),
    )
  }

  byId('leave-group', 'button').addEventListener('click', () => {
    const { client, conv } = shown ?? {}
    if (client === undefined || conv === undefined || !confirm('Leave this group? Somebody has to add you to come back.')) return
    void dialog.attempt(() => client.groups.leave(conv)).then((isDone) => isDone && dialog.close())
  })

  return {
    open(client, conv) {
      shown = { client, conv }
      list.replaceChildren()
      dialog.open()
      void dialog.attempt(load)
    },
    close: dialog.close,
  }
}

function memberItem({ user, role }: GroupMember, me: string, myRole: GroupMember['role'], remove: (user: string) => void) {
  const mayRemove = user !== me && (myRole === 'owner' || (myRole === 'admin' && role === 'member'))
  return {
    key: user,
    signature: `${role} ${mayRemove}`,
    build: () =>
      el(
        'li',
        {},
        avatar(user, 'user'),
        el(
          'span',
          { class: 'who' },
          el('strong', {}, user === me ? `${user} (you)` : user),
          role === 'member' ? undefined : el('span', {}, role),
        ),
        mayRemove ? el('button', { type: 'button', 'aria-label': `Remove ${user}`, onclick: () => remove(user) }, 'Remove') : undefined,
      ),
  }
}
