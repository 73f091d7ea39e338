/** The chat page: signs in, keeps one chat client, and joins it to the views. The open conversation stands in the fragment of the address. */
import { ChatClient } from './chat-client.js'
import type { LinkState } from './connection.js'
import { createConversationView } from './conversation-view.js'
import {
  type Credentials,
  forgetCredentials,
  keepCredentials,
  loadCredentials,
  takeCredentialsFromAddress,
  takeDeviceName,
} from './credentials.js'
import { createDialogs } from './dialogs.js'
import { avatar, byId } from './dom.js'
import { previewOf } from './fold.js'
import { createListView } from './list-view.js'
import { type Address, idPattern, idRule, isAddress, type Message } from './protocol.js'

const signIn = byId('sign-in', 'main')
const signInError = byId('sign-in-error', 'p')
const userField = byId('user', 'input')
const tokenField = byId('token', 'input')
const chat = byId('chat', 'div')

let client: ChatClient | undefined
let isRenderDue = false
/** Since the last time the connection stood. */
let wasOffline = false

const openConv = (): Address | undefined => {
  const conv = location.hash.slice(1)
  return isAddress(conv) ? conv : undefined
}
const choose = (conv: Address): void => {
  location.hash = conv
}
const listView = createListView(choose)
const conversationView = createConversationView(() => {
  history.replaceState(null, '', location.pathname)
  showOpen()
})
const dialogs = createDialogs(() => client, choose)
const device = takeDeviceName()

/** Changes come in bursts, so the page is drawn once per turn. */
function changed(): void {
  if (isRenderDue) return
  isRenderDue = true
  setTimeout(() => {
    isRenderDue = false
    if (client !== undefined) render(client)
  })
}

function render(current: ChatClient): void {
  conversationView.render(current)
  listView.render(current, conversationView.conv)
}

function showOpen(): void {
  if (client === undefined) return
  conversationView.show(client, openConv())
  listView.render(client, conversationView.conv)
}

function showSignIn(why: string, user: string): void {
  client?.close()
  client = undefined
  dialogs.closeAll()
  chat.hidden = true
  signIn.hidden = false
  signInError.textContent = why
  signInError.hidden = why === ''
  userField.value = user
  tokenField.value = ''
  document.title = 'Parley'
  ;(user === '' ? userField : tokenField).focus()
}

function start(credentials: Credentials): void {
  if (!idPattern.test(credentials.user)) return showSignIn(`“${credentials.user}” is not a user id: that is ${idRule}.`, '')
  keepCredentials(credentials)
  signIn.hidden = true
  chat.hidden = false
  byId('me', 'strong').textContent = credentials.user
  byId('me-avatar', 'span').replaceChildren(avatar(credentials.user, 'user'))
  const url = new URL('mqtt', location.href)
  url.protocol = url.protocol.replace('http', 'ws')
  url.hash = ''
  client = new ChatClient(credentials, device, url.href, { changed, linkChanged, arrived })
  conversationView.show(client, openConv())
  render(client)
  client.open()
}

function linkChanged(state: LinkState): void {
  if (state.kind === 'refused') {
    const { me = '' } = client ?? {}
    forgetCredentials()
    return showSignIn(state.why, me)
  }
  const words = { online: 'Connected', connecting: 'Connecting…', offline: 'Offline, trying again' }
  const dot = byId('online', 'span')
  dot.textContent = words[state.kind]
  dot.dataset.state = state.kind
  wasOffline = state.kind === 'offline' || (wasOffline && state.kind === 'connecting')
  byId('link-state', 'div').hidden = !wasOffline
  byId('link-state', 'div').dataset.state = state.kind
  byId('link-retry', 'button').hidden = state.kind !== 'offline'
  byId('link-text', 'span').textContent =
    state.kind === 'offline' ? 'Offline. What you write is sent when the connection is back.' : 'Connecting…'
  changed()
}

/** Read out by screen readers; the log itself is not a live region, since older pages are no news. */
function arrived(_conv: Address, message: Message): void {
  if (client === undefined) return
  const preview = previewOf(message, client.me)
  byId('announcer', 'div').textContent = message.group === undefined && message.type === 'text' ? `${message.from}: ${preview}` : preview
}

byId('sign-in-form', 'form').addEventListener('submit', (event) => {
  event.preventDefault()
  start({ user: userField.value.trim(), token: tokenField.value.trim() })
})
byId('sign-out', 'button').addEventListener('click', () => {
  forgetCredentials()
  history.replaceState(null, '', location.pathname)
  showSignIn('', '')
})
byId('link-retry', 'button').addEventListener('click', () => client?.retryNow())
byId('show-members', 'button').addEventListener('click', () => {
  if (client !== undefined && conversationView.conv !== undefined) dialogs.openMembers(client, conversationView.conv)
})
addEventListener('online', () => client?.retryNow())
addEventListener('hashchange', () => {
  const given = takeCredentialsFromAddress()
  if (given !== undefined) {
    client?.close()
    start(given)
  } else showOpen()
})

const known = takeCredentialsFromAddress() ?? loadCredentials()
if (known === undefined) showSignIn('', '')
else start(known)
