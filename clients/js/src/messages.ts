// What tabs that share a stream say to each other.

import { ahead } from "./cursor.js";
import type { Detail, GatewayEvent, ResetReason, State } from "./options.js";

/** What the leader tells. `at`: the place of its stream before it. */
export type Told =
  | { of: "event"; at: string; event: GatewayEvent }
  | { of: "position"; at: string; id: string }
  | { of: "reset"; reason: ResetReason; to: readonly string[] | undefined }
  /** `types`: those that its stream hands on. */
  | { of: "state"; at: string; state: State; detail: Detail; types: readonly string[] };

/** What tabs ask of the leader. */
export type Asked =
  /** A tab has come, misses something, or is shown; who, and, unless it is only shown, where it is. */
  | { of: "hello"; at: string; tab: string }
  | { of: "listen"; types: readonly string[] }
  /** Whether it lives. It does not say so by itself: timers of a hidden tab are late by up to a minute, answers are not. */
  | { of: "beat" };

/** Whether who is at `mine` misses something, or may, when it goes on from `at`. Who has no place misses nothing. */
export const misses = (mine: string, at: string) => !!mine && mine !== at && !(ahead(at, mine)! <= 0);
