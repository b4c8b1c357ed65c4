// The page's life: it is frozen, put into the browser's cache of pages, hidden and shown; its network goes and comes.

/**
 * Calls `pause` when the page stops, and when it has been hidden for `hiddenAfter` (0: never), and `wake` when it goes
 * on, is shown, or has a network again. Returns what ends that.
 */
export function followPage(pause: () => void, wake: () => void, hiddenAfter = 0): () => void {
  const page = globalThis.document;
  if (!page) return () => {};
  const over = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const on = (target: EventTarget, types: string, listener: () => void) =>
    types.split(" ").forEach((type) => target.addEventListener(type, listener, { signal: over.signal }));
  const look = () => {
    clearTimeout(timer);
    if (!page.hidden || !hiddenAfter) wake();
    else timer = setTimeout(pause, hiddenAfter);
  };
  on(page, "freeze", pause);
  on(window, "pagehide", pause);
  on(page, "visibilitychange resume", look);
  on(window, "pageshow online", look);
  // It may have been opened in the background.
  if (page.hidden && hiddenAfter) look();
  return () => {
    clearTimeout(timer);
    over.abort();
  };
}
