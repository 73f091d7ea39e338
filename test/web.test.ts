/** The chat page in a real browser, as two or three people use it. Needs a Chromium; without one it says so and skips. */
import { existsSync } from 'node:fs'
import mqtt, { type MqttClient } from 'mqtt'
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { createBanner } from '../broker/banner.js'
import { createServer, type Server } from '../broker/server.js'
import { mintToken } from '../broker/token.js'
import { eventually } from './helper/eventually.js'

const jwtSecret = 'a secret for tests that is long enough to be one'
const places = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome', '/usr/bin/google-chrome-stable']
const { CHROME_PATH, PARLEY_TEST_REQUIRE = '' } = process.env
const executablePath = (CHROME_PATH === undefined ? places : [CHROME_PATH]).find((path) => existsSync(path))
const waitMs = 15_000

const flags = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking']
flags.push('--disable-component-update', '--disable-sync', '--use-fake-device-for-media-stream')

/** What Chromium itself writes when a server is away, which no page can prevent. */
const refusedConnection = /WebSocket connection to .* failed/

interface Person {
  page: Page
  /** Faults that the page wrote to the console or threw. */
  faults: string[]
}

/** Waits until this holds in the page. Not by `waitForFunction`, which evaluates in the page, where its policy forbids it. */
const holds = (page: Page, condition: string): Promise<true> =>
  eventually(() => page.evaluate<boolean>(condition), { timeoutMs: waitMs, what: condition })

/** A picture of this height, nearly all of it transparent. */
function gifOf(height: number): Buffer {
  const gif = Buffer.from('R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7', 'base64')
  gif.writeUInt16LE(height, 8)
  return gif
}

let browser: Promise<Browser> | undefined
const launch = (): Promise<Browser> => {
  browser ??= chromium.launch({ executablePath: executablePath as string, headless: true, args: flags })
  return browser
}
// More than a dozen scenes with a server each take longer than tap's default allows a file.
t.setTimeout(300_000)
t.teardown(async () => (await browser)?.close())

/** A server of its own, and people with a tab each in the one browser. */
class Stage {
  readonly dataDir: string
  server: Server
  readonly #contexts: BrowserContext[] = []

  private constructor(server: Server, dataDir: string) {
    this.server = server
    this.dataDir = dataDir
  }

  static async open(t: Test): Promise<Stage> {
    const dataDir = t.testdir()
    const server = await createServer({ mqttPort: 0, httpPort: 0, dataDir, logLevel: 'silent', jwtSecret, presenceGraceMs: 100 })
    const stage = new Stage(server, dataDir)
    t.teardown(async () => {
      for (const context of stage.#contexts) await context.close()
      await stage.server.close()
    })
    await server.ensureUsers(['alice', 'bob', 'carol'])
    return stage
  }

  get url(): string {
    return `http://127.0.0.1:${this.server.httpPort}/`
  }

  token(user: string): Promise<string> {
    return mintToken({ secret: jwtSecret, user, expiresInSeconds: 600 })
  }

  /** Another tab, which has its own sessionStorage; nobody is signed in. */
  async tab(): Promise<Person> {
    const context = await (await launch()).newContext({ viewport: { width: 1000, height: 600 } })
    this.#contexts.push(context)
    const page = await context.newPage()
    page.setDefaultTimeout(waitMs)
    const faults: string[] = []
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type()) && !refusedConnection.test(message.text())) faults.push(message.text())
    })
    page.on('pageerror', (error) => faults.push(error.message))
    await page.goto(this.url)
    return { page, faults }
  }

  /** Signs in by the link that the banner prints. */
  async signedIn(user: string): Promise<Person> {
    const person = await this.tab()
    const token = await this.token(user)
    await person.page.evaluate(`location.assign('#user=${user}&token=${token}')`)
    await isConnected(person.page)
    return person
  }

  /** A client that is not the page. */
  async phone(t: Test, user: string): Promise<MqttClient> {
    const options = { username: user, password: await this.token(user), clientId: 'phone' }
    const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${this.server.mqttPort}`, options)
    t.teardown(() => client.endAsync(true))
    return client
  }

  call(user: string, method: string, params: object): Promise<unknown> {
    return this.token(user).then(async (token) => {
      const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
      const answer = await fetch(`${this.url}v1/rpc/${method}`, { method: 'POST', headers, body: JSON.stringify(params) })
      return answer.json()
    })
  }
}

const isConnected = (page: Page) => page.waitForSelector('#online[data-state=online]')

async function opens(page: Page, user: string): Promise<void> {
  await page.getByRole('button', { name: 'New chat' }).click()
  await page.getByRole('textbox', { name: 'User id', exact: true }).fill(user)
  await page.getByRole('button', { name: 'Open chat' }).click()
  await page.getByRole('heading', { name: user, exact: true }).waitFor()
}

async function says(page: Page, text: string): Promise<void> {
  await page.getByRole('textbox', { name: 'Message', exact: true }).fill(text)
  await page.getByRole('textbox', { name: 'Message', exact: true }).press('Enter')
}

/** The bodies in the log, top to bottom. */
const shown = (page: Page): Promise<string[]> => page.locator('#messages .bubble > .text').allTextContents()

const shows = (page: Page, expected: readonly string[]) =>
  eventually(
    async () => {
      const actual = await shown(page)
      if (actual.join('|') !== expected.join('|')) throw new Error(`shown: ${JSON.stringify(actual)}`)
      return true
    },
    { timeoutMs: waitMs, everyMs: 50, what: `the log shows ${JSON.stringify(expected)}` },
  )

const choose = (page: Page, name: string) => page.locator('#conversations').getByRole('button', { name }).first().click()

function clean(t: Test, people: readonly Person[]): void {
  for (const { faults } of people) t.same(faults, [], 'the console is clean')
}

if (executablePath === undefined) {
  if (PARLEY_TEST_REQUIRE.includes('browser')) t.fail('no Chromium found, and PARLEY_TEST_REQUIRE asks for a browser')
  else t.pass('no Chromium found (CHROME_PATH, /usr/bin/chromium, /usr/bin/google-chrome)', { skip: 'no Chromium; set CHROME_PATH' })
} else {
  t.test('two people talk, and a reload shows the same', async (t) => {
    const stage = await Stage.open(t)
    const [alice, bob] = [await stage.signedIn('alice'), await stage.signedIn('bob')]
    t.notMatch(alice.page.url(), /token/, 'the token has left the address bar')
    await opens(alice.page, 'bob')
    await says(alice.page, 'hi bob')
    await bob.page.locator('.badge', { hasText: '1' }).waitFor()
    t.equal(await bob.page.title(), '(1) Parley')
    await choose(bob.page, 'alice')
    await shows(bob.page, ['hi bob'])
    await bob.page.locator('.badge').waitFor({ state: 'detached' })
    const script = '<img src=x onerror="document.title=1"><script>document.title=1</script>'
    await says(bob.page, 'hi alice')
    await says(bob.page, script)
    await shows(alice.page, ['hi bob', 'hi alice', script])
    t.equal(await alice.page.locator('#messages img, #messages script').count(), 0, 'markup is text')
    t.match(await alice.page.locator('#announcer').textContent(), `bob: ${script}`)
    await alice.page.locator(':is([data-state=sent], [data-state=delivered], [data-state=read])').waitFor()
    await says(alice.page, 'two\nlines')
    await shows(bob.page, ['hi bob', 'hi alice', script, 'two\nlines'])
    await Promise.all([alice.page.reload(), bob.page.reload()])
    for (const { page } of [alice, bob]) await shows(page, ['hi bob', 'hi alice', script, 'two\nlines'])
    t.equal(await bob.page.locator('.badge').count(), 0, 'what was read stays read')
    await alice.page.locator('[data-state=read]').first().waitFor()
    clean(t, [alice, bob])
  })

  t.test('the links of the banner sign in, also in a tab that is open', async (t) => {
    const stage = await Stage.open(t)
    const { config, mqttPort, mqttsPort, httpPort } = stage.server
    const banner = await createBanner({ config, mqttPort, mqttsPort, httpPort, secret: jwtSecret, command: 'parley' })
    const links = banner.match(/http\S+#user=\S+/g) ?? []
    t.equal(links.length, 2)
    const person = await stage.tab()
    for (const [index, user] of ['alice', 'bob'].entries()) {
      await person.page.goto(links[index] ?? '')
      await person.page.locator('#me', { hasText: user }).waitFor()
      await isConnected(person.page)
    }
    clean(t, [person])
  })

  t.test('older pages come as one scrolls up', async (t) => {
    const stage = await Stage.open(t)
    const phone = await stage.phone(t, 'bob')
    const all = Array.from({ length: 130 }, (_, index) => `message ${index + 1}`)
    for (const text of all) await phone.publishAsync('u/alice/msg', text, { qos: 1 })
    const alice = await stage.signedIn('alice')
    await choose(alice.page, 'bob')
    await alice.page.getByText('New messages').waitFor({ state: 'attached' })
    await alice.page.locator('[data-seq="130"]').waitFor()
    t.ok((await shown(alice.page)).length < 130, 'not all is loaded at first')
    // The place that one reads stays where it is while the page before it is put in.
    const top = alice.page.locator(`[data-seq="${await alice.page.locator('article').first().getAttribute('data-seq')}"]`)
    const loaded = await alice.page.locator('article').count()
    // In one step, so that no page can come in between.
    const before = await alice.page.locator('#log').evaluate((log) => {
      log.scrollTo(0, 10)
      return log.querySelector('article')?.getBoundingClientRect().y
    })
    await eventually(async () => (await alice.page.locator('article').count()) > loaded, { timeoutMs: waitMs, everyMs: 20 })
    const after = await top.boundingBox()
    t.ok(before !== undefined && after !== null && Math.abs(after.y - before) < 5, `the place stays: ${before}, ${after?.y}`)
    t.ok((await shown(alice.page)).length < 130, 'and no more than a page came')
    const scrollUp = () => alice.page.locator('#log').evaluate((log) => log.scrollTo(0, 0))
    await eventually(async () => scrollUp().then(async () => (await shown(alice.page)).length === 130), { timeoutMs: waitMs, everyMs: 100 })
    await shows(alice.page, all)
    clean(t, [alice])
  })

  t.test('a group of three, and what its log says', async (t) => {
    const stage = await Stage.open(t)
    const [alice, bob] = [await stage.signedIn('alice'), await stage.signedIn('bob')]
    await alice.page.getByRole('button', { name: 'New group' }).click()
    await alice.page.getByRole('textbox', { name: 'Name' }).fill('Lunch')
    await alice.page.getByRole('textbox', { name: 'Members' }).fill('bob, nobody')
    await alice.page.getByRole('button', { name: 'Create group' }).click()
    await alice.page.getByText('No such user: nobody.').waitFor()
    await alice.page.getByRole('textbox', { name: 'Members' }).fill('bob carol')
    await alice.page.getByRole('button', { name: 'Create group' }).click()
    await alice.page.getByText('You created the group “Lunch” with bob and carol').last().waitFor()
    await says(alice.page, 'noodles?')
    await choose(bob.page, 'Lunch')
    await shows(bob.page, ['noodles?'])
    const carol = await stage.signedIn('carol')
    await choose(carol.page, 'Lunch')
    await says(carol.page, 'yes')
    for (const { page } of [alice, bob, carol]) await shows(page, ['noodles?', 'yes'])
    await alice.page.getByRole('button', { name: 'Members' }).click()
    await alice.page.getByRole('heading', { name: '3 members' }).waitFor()
    await alice.page.getByRole('button', { name: 'Remove bob' }).click()
    await alice.page.getByRole('heading', { name: '2 members' }).waitFor()
    await bob.page.getByText('You are no longer a member').waitFor()
    await alice.page.getByLabel('User id to add').fill('bob')
    await alice.page.getByRole('button', { name: 'Add', exact: true }).click()
    await alice.page.getByRole('heading', { name: '3 members' }).waitFor()
    await alice.page.getByRole('button', { name: 'Done' }).click()
    await says(alice.page, 'again')
    await bob.page.getByText('again', { exact: true }).first().waitFor()
    const { conversations } = (await stage.call('alice', 'conversations', {})) as { conversations: [{ conv: string }] }
    const group = conversations[0].conv.slice('g/'.length)
    await stage.call('alice', 'group.update', { group, name: 'Dinner', announcement: 'Bring forks' })
    await bob.page.locator('.notice', { hasText: 'alice renamed the group to “Dinner”: Bring forks' }).waitFor()
    carol.page.on('dialog', (dialog) => void dialog.accept())
    await carol.page.getByRole('button', { name: 'Members' }).click()
    await carol.page.getByRole('button', { name: 'Leave group' }).click()
    await carol.page.getByText('You are no longer a member').waitFor()
    await alice.page.locator('.notice', { hasText: 'carol left the group' }).waitFor()
    clean(t, [alice, bob, carol])
  })

  t.test('a message that is refused says why, and can be sent again', async (t) => {
    const stage = await Stage.open(t)
    const alice = await stage.signedIn('alice')
    await opens(alice.page, 'zed')
    await says(alice.page, 'anybody?')
    await alice.page.locator('.failure', { hasText: 'there is no user zed' }).waitFor()
    await alice.page.reload()
    await alice.page.locator('.failure', { hasText: 'there is no user zed' }).waitFor()
    await stage.server.ensureUsers(['zed'])
    await alice.page.getByRole('button', { name: 'Retry' }).click()
    await alice.page.locator('article:is([data-state=sent], [data-state=delivered], [data-state=read])').waitFor()
    const { messages } = (await stage.call('zed', 'history', { conv: 'u/alice' })) as { messages: { body: string }[] }
    t.match(messages, [{ seq: 1, body: 'anybody?' }])
    clean(t, [alice])
  })

  t.test('what other clients send is shown sensibly', async (t) => {
    const stage = await Stage.open(t)
    const [alice, bob] = [await stage.signedIn('alice'), await stage.signedIn('bob')]
    await opens(alice.page, 'bob')
    const phone = await stage.phone(t, 'bob')
    const raw = (message: object) => phone.publishAsync('u/alice/msg', JSON.stringify(message), { qos: 1 })
    await raw({ id: '1', body: 'helo' })
    await raw({ id: '2', body: 'secret' })
    await raw({ id: '3', type: 'edit', body: { seq: 1, body: 'hello' } })
    await raw({ id: '4', type: 'recall', body: { seq: 2 } })
    await raw({ id: '5', type: 'reaction', body: { seq: 1, emoji: '+1', on: true } })
    await raw({ id: '6', type: 'file', body: { url: 'javascript:alert(1)', mime: 'text/html', size: 3, name: 'a.html' } })
    await raw({ id: '7', type: 'file', body: { url: 'https://example.org/b', mime: 'text/plain', size: 3, name: 'b.txt' } })
    await raw({ id: '8', body: 'an answer', re: 1 })
    await shows(alice.page, ['hello', 'This message was recalled', 'an answer'])
    t.equal(await alice.page.locator('.reaction').textContent(), '+1')
    t.equal(await alice.page.locator('blockquote .quoted').textContent(), 'hello')
    t.same(
      await alice.page.locator('a.attachment').evaluateAll((links) => links.map((link) => link.getAttribute('href'))),
      ['https://example.org/b'],
      'only a web address becomes a link',
    )
    clean(t, [alice, bob])
  })

  t.test('a picture is sent, and shown to who it was sent to', async (t) => {
    const stage = await Stage.open(t)
    const [alice, bob] = [await stage.signedIn('alice'), await stage.signedIn('bob')]
    await opens(alice.page, 'bob')
    await opens(bob.page, 'alice')
    const pixel = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='
    const picker = alice.page.locator('#picker')
    await picker.setInputFiles({ name: 'dot.png', mimeType: 'image/png', buffer: Buffer.from(pixel, 'base64') })
    const pictures = `[...document.querySelectorAll('.attachment.picture img')]`
    for (const { page } of [alice, bob]) await holds(page, `${pictures}.some(({ naturalWidth }) => naturalWidth === 1)`)
    for (const height of [400, 420]) await picker.setInputFiles({ name: 'tall.gif', mimeType: 'image/gif', buffer: gifOf(height) })
    for (const { page } of [alice, bob]) {
      await holds(page, `${pictures}.filter(({ naturalHeight }) => naturalHeight >= 400).length === 2`)
      await holds(page, 'log.scrollHeight - log.scrollTop - log.clientHeight < 2')
    }
    await picker.setInputFiles({ name: 'notes.txt', mimeType: 'text/plain', buffer: Buffer.from('noodles') })
    const link = bob.page.locator('.attachment.file a[href]')
    await link.waitFor()
    const [download] = await Promise.all([bob.page.waitForEvent('download'), link.click()])
    t.equal(download.suggestedFilename(), 'notes.txt')
    await picker.setInputFiles({ name: 'lie.pdf', mimeType: 'application/pdf', buffer: Buffer.from('no pdf') })
    await alice.page.locator('#upload-state', { hasText: 'lie.pdf was not sent: these bytes are no application/pdf' }).waitFor()
    const complaints = alice.faults.splice(0)
    t.ok(
      complaints.every((fault) => fault.includes('415')),
      'and nothing else went wrong',
    )
    clean(t, [alice, bob])
  })

  t.test('who is writing is shown, in a chat and in a group, until he stops', async (t) => {
    const stage = await Stage.open(t)
    const [alice, bob, carol] = [await stage.signedIn('alice'), await stage.signedIn('bob'), await stage.signedIn('carol')]
    const draft = bob.page.getByRole('textbox', { name: 'Message', exact: true })
    const subtitle = alice.page.locator('#subtitle')
    const preview = (name: string) => alice.page.locator('.conversation-item', { hasText: name }).locator('.preview')
    await opens(bob.page, 'alice')
    await draft.pressSequentially('h')
    await says(bob.page, 'hi')
    await opens(alice.page, 'bob')
    await shows(alice.page, ['hi'])
    t.notMatch(await subtitle.textContent(), 'writing', 'nobody is heard before there is a conversation')
    await draft.pressSequentially('how')
    await subtitle.getByText('writing …', { exact: true }).waitFor()
    await preview('bob').getByText('writing …', { exact: true }).waitFor()
    await draft.fill('')
    await preview('bob').getByText('hi', { exact: true }).waitFor()
    await draft.pressSequentially('how')
    await subtitle.getByText('writing …', { exact: true }).waitFor()
    await says(bob.page, 'how are you?')
    await shows(alice.page, ['hi', 'how are you?'])
    await subtitle.getByText('online', { exact: true }).waitFor()

    await stage.call('alice', 'group.create', { group: 'lunch', name: 'Lunch', members: ['bob', 'carol'] })
    for (const { page } of [alice, bob, carol]) await choose(page, 'Lunch')
    await draft.pressSequentially('noodles')
    for (const { page } of [alice, carol]) await page.locator('#subtitle').getByText('bob is writing …', { exact: true }).waitFor()
    await carol.page.getByRole('textbox', { name: 'Message', exact: true }).pressSequentially('rice')
    await subtitle.getByText('bob and carol are writing …', { exact: true }).waitFor()
    await choose(bob.page, 'alice')
    await subtitle.getByText('carol is writing …', { exact: true }).waitFor()
    clean(t, [alice, bob, carol])
  })

  t.test('who is there is seen, and who is busy, and when he has gone', async (t) => {
    const stage = await Stage.open(t)
    const alice = await stage.signedIn('alice')
    const phone = await stage.phone(t, 'bob')
    await phone.publishAsync('u/alice/msg', 'hi', { qos: 1 })
    const dot = (state: string) => alice.page.locator(`.conversation-item .avatar[data-dot=${state}]`)
    await dot('online').waitFor()
    await choose(alice.page, 'bob')
    const subtitle = (text: string | RegExp) => alice.page.locator('#subtitle', { hasText: text }).waitFor()
    await subtitle('online')
    await stage.call('bob', 'profile.update', { status: 'busy' })
    await dot('busy').waitFor()
    await subtitle('busy')
    await phone.endAsync()
    await subtitle(/^last seen /)
    t.equal(await dot('busy').count(), 0)
    clean(t, [alice])
  })

  t.test('a voice message is recorded, sent and played; one that is cancelled is not', async (t) => {
    const stage = await Stage.open(t)
    const [alice, bob] = [await stage.signedIn('alice'), await stage.signedIn('bob')]
    await opens(alice.page, 'bob')
    await opens(bob.page, 'alice')
    const record = alice.page.getByRole('button', { name: 'Record a voice message' })
    await record.click()
    await alice.page.locator('#upload-state', { hasText: 'The microphone cannot be used' }).waitFor()
    await alice.page.context().grantPermissions(['microphone'])
    await record.click()
    await alice.page.getByRole('timer').getByText('0:01').waitFor()
    await alice.page.getByRole('button', { name: 'Cancel', exact: true }).click()
    await record.click()
    await alice.page.getByRole('timer').getByText('0:01').waitFor()
    t.notOk(await alice.page.getByRole('textbox', { name: 'Message', exact: true }).isVisible())
    await alice.page.getByRole('button', { name: 'Send the voice message' }).click()
    for (const { page } of [alice, bob]) await page.locator('.attachment.sound audio[src]').waitFor()
    const played = `new Promise((resolve, reject) => {
      const sound = document.querySelector('.attachment.sound audio')
      sound.addEventListener('timeupdate', () => sound.currentTime > 0 && resolve(true))
      sound.addEventListener('error', () => reject(new Error(sound.error.message)))
      sound.muted = true
      sound.play().catch(reject)
    })`
    t.equal(await bob.page.evaluate(played), true, 'it sounds')
    const { messages } = (await stage.call('bob', 'history', { conv: 'u/alice' })) as { messages: { type: string; body: object }[] }
    t.match(messages, [{ type: 'voice', body: { mime: 'audio/webm', duration_ms: Number } }])
    t.equal(messages.length, 1)
    clean(t, [alice, bob])
  })

  t.test('what was recalled or erased says so, in the list too', async (t) => {
    const stage = await Stage.open(t)
    const [bob, carol] = [await stage.phone(t, 'bob'), await stage.phone(t, 'carol')]
    await bob.publishAsync('u/alice/msg', JSON.stringify({ id: '1', body: 'oops' }), { qos: 1 })
    await bob.publishAsync('u/alice/msg', JSON.stringify({ id: '2', type: 'recall', body: { seq: 1 } }), { qos: 1 })
    await carol.publishAsync('u/alice/msg', JSON.stringify({ id: '1', body: 'soon gone' }), { qos: 1 })
    const watcher = await stage.signedIn('alice')
    await choose(watcher.page, 'carol')
    await shows(watcher.page, ['soon gone'])
    const admin = await mintToken({ secret: jwtSecret, user: '', scope: 'admin', expiresInSeconds: 600 })
    const erase = async () => {
      const answer = await fetch(`${stage.url}v1/admin/users/carol`, { method: 'DELETE', headers: { authorization: `Bearer ${admin}` } })
      return ((await answer.json()) as { done: boolean }).done
    }
    await eventually(erase, { timeoutMs: waitMs })
    await shows(watcher.page, ['This message was erased'])
    const alice = await stage.signedIn('alice')
    await alice.page.locator('.conversation-item', { hasText: 'bob' }).locator('.preview', { hasText: 'bob recalled a message' }).waitFor()
    await choose(alice.page, 'bob')
    await shows(alice.page, ['This message was recalled'])
    await choose(alice.page, 'carol')
    await shows(alice.page, ['This message was erased'])
    await alice.page.locator('.notice', { hasText: 'carol is gone' }).waitFor()
    clean(t, [alice, watcher])
  })

  t.test('the page comes back with the server, and misses nothing', async (t) => {
    const stage = await Stage.open(t)
    const alice = await stage.signedIn('alice')
    await opens(alice.page, 'bob')
    await says(alice.page, 'before')
    await alice.page.locator('article:is([data-state=sent], [data-state=delivered], [data-state=read])').waitFor()
    const { httpPort } = stage.server
    await stage.server.close()
    await alice.page.locator('#link-state', { hasText: 'Offline' }).waitFor()
    await says(alice.page, 'while away')
    await alice.page.locator('article[data-state=sending]', { hasText: 'waiting for the connection' }).waitFor()
    stage.server = await createServer({ mqttPort: 0, httpPort, dataDir: stage.dataDir, logLevel: 'silent', jwtSecret })
    const bob = await stage.signedIn('bob')
    await opens(bob.page, 'alice')
    await says(bob.page, 'meanwhile')
    await isConnected(alice.page)
    await eventually(async () => (await shown(alice.page)).length === 3, { timeoutMs: waitMs, everyMs: 50 })
    const log = await shown(alice.page)
    t.same([...log].sort(), ['before', 'meanwhile', 'while away'])
    await shows(bob.page, log)
    clean(t, [alice, bob])
  })

  t.test('a token that is not good is refused in words', async (t) => {
    const stage = await Stage.open(t)
    const person = await stage.tab()
    await person.page.getByRole('textbox', { name: 'User id', exact: true }).fill('alice')
    await person.page.getByLabel('Token').fill(await stage.token('bob'))
    await person.page.getByRole('button', { name: 'Sign in' }).click()
    await person.page.getByRole('alert').filter({ hasText: 'The server refused the token' }).waitFor()
    await person.page.getByLabel('Token').fill(await stage.token('alice'))
    await person.page.getByRole('button', { name: 'Sign in' }).click()
    await isConnected(person.page)
    await person.page.getByRole('button', { name: 'Sign out' }).click()
    await person.page.getByLabel('Token').waitFor()
    t.equal(await person.page.evaluate(`sessionStorage.getItem('parley.credentials')`), null)
    clean(t, [person])
  })

  t.test('a duplicated tab is a device of its own', async (t) => {
    const stage = await Stage.open(t)
    const alice = await stage.signedIn('alice')
    await opens(alice.page, 'bob')
    const [copy] = await Promise.all([alice.page.context().waitForEvent('page'), alice.page.evaluate('void open(location.href)')])
    await isConnected(copy)
    await says(copy, 'from the copy')
    await shows(alice.page, ['from the copy'])
    await says(alice.page, 'from the first')
    await shows(copy, ['from the copy', 'from the first'])
    clean(t, [alice])
  })
}
