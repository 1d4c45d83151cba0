/** Keeps the screen on, as long as the page is seen. Browsers let go of it when it is hidden, so it is asked for again then. */
export class ScreenLock {
  #wanted = true;
  #sentinel: WakeLockSentinel | undefined;
  #settled = Promise.resolve();
  readonly #update = (): void => {
    this.#settled = this.#settled.then(() => this.#ask()); // one at a time, or one would stay
  };

  constructor() {
    document.addEventListener("visibilitychange", this.#update);
    this.#update();
  }

  release(): void {
    this.#wanted = false;
    document.removeEventListener("visibilitychange", this.#update);
    this.#update();
  }

  async #ask(): Promise<void> {
    if (!this.#wanted) {
      await this.#sentinel?.release();
    } else if (!document.hidden && (this.#sentinel?.released ?? true)) {
      // It may be refused, as where the battery is low: the screen is not what the call is about.
      this.#sentinel = await navigator.wakeLock?.request("screen").catch(() => undefined);
    }
  }
}
