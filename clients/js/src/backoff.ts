// When to come back. Each delay is drawn evenly from all up to a ceiling that doubles (full jitter), so that clients
// which lost their stream together come back apart.

/** A server asks for no longer pause than an hour. */
const LONGEST = 36e5;
/** Nobody comes back at once: `retry: 0` would have all of them do so, again and again. */
const SHORTEST = 100;

/** Draws the delay of the attempt after `failures` others. A base that is beyond `max` was asked for, and counts. */
export const jittered = (base: number, max: number, failures: number): number =>
  Math.random() * Math.max(SHORTEST, base, Math.min(max, base * 2 ** failures));

/** What was asked for, within reason. */
export const within = (wanted: number): number => Math.min(Math.max(wanted, 0), LONGEST) || 0;

/** Milliseconds of a `Retry-After`: seconds, or a date, which is read by the server's own clock where that is told. */
export function retryAfter(headers: Headers): number {
  const value = headers.get("retry-after") ?? "";
  const now = Date.parse(headers.get("date") ?? "") || Date.now();
  return within(/^\d+$/.test(value) ? +value * 1000 : Date.parse(value) - now);
}
