/** Calls into the application: what it throws is its own, and not the stream's end. */
export function tell<T extends unknown[]>(callback: ((...told: T) => void) | undefined, ...told: T): void {
  try {
    callback?.(...told);
  } catch (error) {
    setTimeout(() => {
      throw error;
    }, 0);
  }
}
