/** Below the 100 that mosquitto lets wait to be accepted. */
const connectsAtOnce = 96

/** For connects: a few at a time. */
export async function inParallel<Item>(items: readonly Item[], work: (item: Item) => Promise<void>): Promise<void> {
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < items.length) await work(items[next++] as Item)
  }
  await Promise.all(Array.from({ length: connectsAtOnce }, worker))
}
