// A TCP proxy on loopback that a test can cut: a database or an object store that is away for a while.
import { connect, createServer, type Socket } from 'node:net';

export interface Proxy {
  readonly port: number;
  /** Ends every connection and refuses new ones. */
  cut(): void;
  /** Lets connections in again, to another port when one is given. */
  restore(targetPort?: number): void;
  close(): Promise<void>;
}

export async function openProxy(targetPort: number): Promise<Proxy> {
  const sockets = new Set<Socket>();
  let target: number | null = targetPort;
  let last = targetPort;
  const server = createServer(client => {
    if (target === null) return client.resetAndDestroy();
    const upstream = connect(target, '127.0.0.1');
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(socket);
      socket.on('error', () => undefined); // `close` follows
      socket.on('close', () => {
        sockets.delete(socket);
        other.destroy();
      });
      socket.pipe(other);
    }
  });
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done));
  const cut = () => {
    target = null;
    for (const socket of sockets) socket.resetAndDestroy();
  };
  return {
    port: (server.address() as { port: number }).port,
    cut,
    restore(port = last) {
      last = port;
      target = port;
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
