/** Removes a value from the list of its key, and the key with its last value; the order of the others changes. */
export function removeFrom<Key, Value>(map: Map<Key, Value[]>, key: Key, value: Value): void {
  const values = map.get(key)
  const index = values?.indexOf(value) ?? -1
  if (values === undefined || index === -1) return
  const last = values.pop() as Value
  if (index < values.length) values[index] = last
  if (values.length === 0) map.delete(key)
}
