import { native } from "../lib/native.js";

/** What is to be freed, the last first, unless it is moved elsewhere: a DisposableStack, which Node.js 20 lacks. */
export class Cleanup implements Disposable {
  #work: (() => void)[] = [];

  defer(work: () => void): void {
    this.#work.push(work);
  }

  /** Takes what was just made. */
  use<T extends Disposable>(made: T): T {
    this.defer(() => made[Symbol.dispose]());
    return made;
  }

  /** Takes a native handle. */
  handle<T extends Parameters<typeof native.free>[0]>(handle: T): T {
    this.defer(() => native.free(handle));
    return handle;
  }

  /** Leaves it to the caller, who frees it all by calling what this returns. */
  move(): () => void {
    const moved = new Cleanup();
    moved.#work = this.#work;
    this.#work = [];
    return () => moved[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    for (const work of this.#work.splice(0).reverse()) work();
  }
}
