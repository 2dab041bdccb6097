// HTTP server for GET /metrics of a worker. The api has a route instead (routes/monitoring.ts).
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Logger } from '../log.ts';
import { isAllowed, type Monitoring } from './monitoring.ts';

export interface MetricsServer {
  readonly port: number;
  close(): Promise<void>;
}

export interface MetricsServerOptions {
  monitoring: Monitoring;
  token: string;
  host: string;
  port: number;
  log: Logger;
}

/** Throws when the port is in use. */
export async function openMetricsServer(options: MetricsServerOptions): Promise<MetricsServer> {
  const { monitoring, token, host, port, log } = options;
  const server = createServer((request, response) => {
    const answer = (status: number, text: string) =>
      response.writeHead(status, { 'content-type': monitoring.registry.contentType }).end(text);
    if (request.url !== '/metrics') answer(404, '');
    else if (!isAllowed(request.headers.authorization, token)) answer(401, '');
    else {
      const failed = (error: unknown) => {
        log.error({ error }, 'metrics could not be written');
        answer(500, '');
      };
      monitoring.write().then(text => answer(200, text), failed);
    }
  });
  server.listen(port, host);
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}
