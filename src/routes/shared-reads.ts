// Shares one database read between all requests of the same turn of the event loop that need the same row. The read starts after they have
// all arrived, so none of them sees an older state. Nothing is cached beyond that.
import { setImmediate as endOfTurn } from 'node:timers/promises';

export function shareReads<Value>(read: (key: string) => Promise<Value>): (key: string) => Promise<Value> {
  const asked = new Map<string, Promise<Value>>();
  const readLater = async (key: string) => {
    await endOfTurn();
    asked.delete(key);
    return read(key);
  };
  return key => {
    const shared = asked.get(key) ?? readLater(key);
    asked.set(key, shared);
    return shared;
  };
}
