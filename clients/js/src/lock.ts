// Who has the stream of all tabs: the one that holds a Web Lock. When it goes the browser gives the lock to the next. One
// that hangs does not go, so another may take the lock from it.

import { tell } from "./tell.js";

export interface Leader {
  /** The lock is had. */
  lead: () => void;
  /** Another tab has taken it; this one waits for it again. */
  lose: () => void;
  /** There are no locks here, as in a sandboxed frame, or where the user allows no storage. */
  deny: () => void;
}

export interface Turn {
  /** Takes the lock from whoever has it. */
  take(): void;
  /** Lets it go, or waits no longer. */
  leave(): void;
}

/** Waits for the lock. */
export function queue(locks: LockManager, name: string, leader: Leader): Turn {
  let leave: AbortController;
  const request = (steal: boolean) => {
    const mine = (leave = new AbortController());
    const { signal } = mine;
    let had = false;
    const hold = () =>
      new Promise<void>((release) => {
        if (signal.aborted) return release();
        signal.onabort = () => release();
        had = true;
        // It holds what it can not use, if it throws: it would be no better the next time.
        tell(leader.lead);
      });
    // Web Locks refuse a signal beside `steal`.
    locks.request(name, steal ? { steal } : { signal }, hold).catch(() => {
      if (signal.aborted) return;
      mine.abort();
      if (!had) return leader.deny();
      request(false);
      leader.lose();
    });
  };
  request(false);
  return {
    take() {
      leave.abort();
      request(true);
    },
    leave: () => leave.abort(),
  };
}
