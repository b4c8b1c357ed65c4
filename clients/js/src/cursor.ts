// Places in the log: `<8 hex epoch>-<sequence>`, with `-end` after the event that completed the stream.

const parse = (id: string) => /^([\da-f]{8})-(\d+)/.exec(id);

/** How far `id` is ahead of `other`; none when they can not be compared. */
export function ahead(id: string, other: string): number | undefined {
  const [a, b] = [parse(id), parse(other)];
  return a && b && a[1] === b[1] ? +a[2]! - +b[2]! : undefined;
}
