// A TCP proxy on loopback that tests can cut or freeze, to simulate an unreachable or unresponsive database or object store.
import { connect, createServer, type Socket } from 'node:net';

export interface Proxy {
  readonly port: number;
  /** Resets all connections and rejects new ones. */
  cut(): void;
  /** Accepts connections again, optionally to another port. */
  restore(targetPort?: number): void;
  /** Forwards nothing: connections stay open and new ones are accepted, but get no response. */
  freeze(): void;
  thaw(): void;
  close(): Promise<void>;
}

export async function openProxy(targetPort: number): Promise<Proxy> {
  /** Each socket with the one that it forwards to. */
  const sockets = new Map<Socket, Socket>();
  let target: number | null = targetPort;
  let last = targetPort;
  let frozen = false;
  const server = createServer(client => {
    if (target === null) return client.resetAndDestroy();
    const upstream = connect(target, '127.0.0.1');
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.set(socket, other);
      socket.on('error', () => undefined); // `close` follows
      socket.on('close', () => {
        sockets.delete(socket);
        other.destroy();
      });
      if (!frozen) socket.pipe(other);
    }
  });
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done));
  const cut = () => {
    target = null;
    for (const socket of sockets.keys()) socket.resetAndDestroy();
  };
  return {
    port: (server.address() as { port: number }).port,
    cut,
    restore(port = last) {
      last = port;
      target = port;
    },
    freeze() {
      frozen = true;
      for (const [socket, other] of sockets) socket.unpipe(other);
    },
    thaw() {
      if (!frozen) return; // a second pipe would duplicate the data
      frozen = false;
      for (const [socket, other] of sockets) socket.pipe(other);
    },
    async close() {
      cut();
      await new Promise(done => server.close(done));
    },
  };
}

/** The same address on another port. */
export function throughPort(url: string, port: number): string {
  const changed = new URL(url);
  changed.port = String(port);
  return changed.href.replace(/\/$/, '');
}
