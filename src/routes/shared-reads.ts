// One read of the database for all requests of a turn of the event loop that ask for the same. It begins after they have asked,
// so that none is told what held before it came. Nothing is kept for later ones.
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
