// Protection against SSRF: webhooks are sent to public addresses and to explicitly allowed private networks only. The addresses of a host
// name are checked in the lookup of the connection itself, so a name that changes in between (DNS rebinding) is of no use.
import { type LookupAddress, lookup } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';

export interface Network {
  readonly address: string;
  readonly prefix: number;
  readonly family: 'ipv4' | 'ipv6';
}

/** Addresses that are not on the public internet: IANA's special-purpose registries (RFC 6890). */
const SPECIAL: readonly Network[] = [
  ...[
    ['0.0.0.0', 8], // this network
    ['10.0.0.0', 8], // private
    ['100.64.0.0', 10], // carriers' NAT
    ['127.0.0.0', 8], // loopback
    ['169.254.0.0', 16], // link-local; clouds answer with credentials there
    ['172.16.0.0', 12], // private
    ['192.0.0.0', 24], // protocol assignments
    ['192.0.2.0', 24], // documentation
    ['192.168.0.0', 16], // private
    ['198.18.0.0', 15], // benchmarks
    ['198.51.100.0', 24], // documentation
    ['203.0.113.0', 24], // documentation
    ['224.0.0.0', 4], // multicast
    ['240.0.0.0', 4], // reserved, broadcast
  ].map(([address, prefix]) => ({ address, prefix, family: 'ipv4' }) as Network),
  ...[
    ['::', 96], // unspecified, loopback, and IPv4 in the old form
    ['64:ff9b::', 96], // IPv4 behind a NAT64: whatever that reaches
    ['64:ff9b:1::', 48], // the same, local
    ['100::', 64], // discard
    ['2001::', 23], // protocol assignments, Teredo
    ['2001:db8::', 32], // documentation
    ['2002::', 16], // 6to4: IPv4 inside
    ['fc00::', 7], // private
    ['fe80::', 10], // link-local
    ['fec0::', 10], // site-local
    ['ff00::', 8], // multicast
  ].map(([address, prefix]) => ({ address, prefix, family: 'ipv6' }) as Network),
];

const special = listOf(SPECIAL);

export class AddressRefused extends Error {}

/** Throws AddressRefused for a URL that is not allowed, without resolving its host name. */
export function checkUrl(url: URL, allowed: readonly Network[]): void {
  if (url.protocol !== 'https:' && (url.protocol !== 'http:' || allowed.length === 0))
    throw new AddressRefused('it must begin with https://');
  if (url.username || url.password) throw new AddressRefused('it must not hold a user name or a password');
  const host = hostOf(url);
  if (isIP(host)) checkAddress(host, url.protocol, listOf(allowed));
}

/** Lookup function for `http.request`. Fails if any address of the name is not allowed. */
export function checkedLookup(url: URL, allowed: readonly Network[]): LookupFunction {
  const allowedList = listOf(allowed);
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, addresses) => {
      const refused = error ?? firstRefused(addresses, url.protocol, allowedList);
      if (refused) return callback(refused, '', 0);
      if (options.all) return callback(null, addresses);
      callback(null, addresses[0]!.address, addresses[0]!.family);
    });
  };
}

function firstRefused(addresses: LookupAddress[], protocol: string, allowed: BlockList): Error | null {
  try {
    for (const { address } of addresses) checkAddress(address, protocol, allowed);
    return null;
  } catch (error) {
    return error as AddressRefused;
  }
}

function checkAddress(address: string, protocol: string, allowed: BlockList): void {
  if (has(allowed, address)) return;
  if (has(special, address))
    throw new AddressRefused(
      `${address} is not an address of the internet; ANNEAL_WEBHOOK_NETWORKS names the private networks that are allowed`,
    );
  if (protocol !== 'https:')
    throw new AddressRefused(`${address} is an address of the internet: it must begin with https://`);
}

/** For `https://[::1]:8000/` it is `::1`. */
function hostOf(url: URL): string {
  return url.hostname.replace(/^\[|\]$/g, '');
}

function listOf(networks: readonly Network[]): BlockList {
  const list = new BlockList();
  for (const { address, prefix, family } of networks) list.addSubnet(address, prefix, family);
  return list;
}

/** An IPv4-mapped address (`::ffff:10.0.0.1`) is treated as the IPv4 address. */
function has(list: BlockList, address: string): boolean {
  return list.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');
}
