/**
 * A pickle of protocol 2 (Python's pickletools.py), as torch.save writes one of a dictionary of tensors.
 *
 * A pickle is a program: its opcodes push values on a stack, and take them to build others. Here they build nothing but
 * numbers, strings, tuples and dictionaries; whatever else a pickle wants is the caller's to give, under the names that
 * the caller knows. Opcodes that torch.save has no use for are refused, and so is every other name: nothing that a
 * pickle holds is ever called, looked up or imported.
 */
import { type CriaFileError, show } from "../errors.js";

/** What a pickle may have beside plain values. */
export interface PickleWorld {
  /** By "module.name"; those that are functions may be called, and are given the array of their arguments. */
  readonly globals: ReadonlyMap<string, unknown>;
  /** What a persistent id stands for. */
  persistent(id: unknown): unknown;
}

/** Makes an error of a problem, "must be such and such". */
export type Fail = (problem: string, code?: "ERR_CRIA_UNSUPPORTED") => CriaFileError;

/** Opcodes, values on the stack and entries of the memo: a LLaMA of 80 layers and 8 parts takes some 20,000. */
const most = { operations: 2 ** 20, stack: 2 ** 16, memo: 2 ** 18 } as const;

/** How deep marks may nest. torch.save nests three: a dictionary's items, a call's arguments, a storage's id. */
const mostMarks = 32;

/** The longest line of a global's two. */
const mostNameBytes = 256;

/** Integers that JavaScript holds exactly take seven bytes; torch.save may write them in eight. */
const mostLongBytes = 8;

/**
 * Those that Python's pickler writes in protocol 2 for dictionaries, strings, integers, tuples, calls and what they
 * share.
 */
const opcodes = {
  proto: 0x80,
  stop: 0x2e,
  none: 0x4e,
  newTrue: 0x88,
  newFalse: 0x89,
  binInt: 0x4a,
  binInt1: 0x4b,
  binInt2: 0x4d,
  long1: 0x8a,
  binUnicode: 0x58,
  emptyTuple: 0x29,
  tuple1: 0x85,
  tuple2: 0x86,
  tuple3: 0x87,
  tuple: 0x74,
  mark: 0x28,
  emptyDict: 0x7d,
  setItem: 0x73,
  setItems: 0x75,
  binPut: 0x71,
  longBinPut: 0x72,
  binGet: 0x68,
  longBinGet: 0x6a,
  global: 0x63,
  reduce: 0x52,
  build: 0x62,
  binPersId: 0x51,
} as const;

/**
 * Runs a pickle.
 *
 * @returns what it leaves: dictionaries as Maps, tuples as arrays, None as null
 * @throws what `fail` makes: ERR_CRIA_FILE where the pickle is damaged, ERR_CRIA_UNSUPPORTED for an opcode or a global
 *   that is not known
 */
export function readPickle(bytes: Buffer, world: PickleWorld, fail: Fail): unknown {
  return new Machine(bytes, world, fail).run();
}

class Machine {
  readonly #bytes: Buffer;
  readonly #world: PickleWorld;
  readonly #fail: Fail;
  #position = 0;
  readonly #stack: unknown[] = [];
  /** The lengths that the stack had at the marks that are open. */
  readonly #marks: number[] = [];
  readonly #memo = new Map<number, unknown>();

  constructor(bytes: Buffer, world: PickleWorld, fail: Fail) {
    this.#bytes = bytes;
    this.#world = world;
    this.#fail = fail;
  }

  run(): unknown {
    if (this.#u8() !== opcodes.proto) throw this.error("must begin as a pickle of protocol 2");
    const protocol = this.#u8();
    if (protocol !== 2) throw this.error(`must be of protocol 2, not ${protocol}`, "ERR_CRIA_UNSUPPORTED");
    for (let operations = 1; ; operations++) {
      if (operations > most.operations) throw this.error(`must have at most ${most.operations} opcodes`);
      const opcode = this.#u8();
      if (opcode === opcodes.stop) return this.#result();
      const operation = this.#operations.get(opcode);
      if (operation === undefined) {
        throw this.error(
          `must have opcodes that torch.save writes for tensors, not 0x${opcode.toString(16)}`,
          "ERR_CRIA_UNSUPPORTED",
        );
      }
      operation();
      if (this.#stack.length > most.stack) throw this.error(`must have at most ${most.stack} values at a time`);
    }
  }

  error(problem: string, code?: "ERR_CRIA_UNSUPPORTED"): CriaFileError {
    return this.#fail(`${problem}, at byte ${this.#position}`, code);
  }

  readonly #operations: ReadonlyMap<number, () => void> = new Map([
    [opcodes.none, () => this.#push(null)],
    [opcodes.newTrue, () => this.#push(true)],
    [opcodes.newFalse, () => this.#push(false)],
    [opcodes.binInt, () => this.#push(this.#take(4).readInt32LE())],
    [opcodes.binInt1, () => this.#push(this.#u8())],
    [opcodes.binInt2, () => this.#push(this.#take(2).readUInt16LE())],
    [opcodes.long1, () => this.#push(this.#long())],
    [opcodes.binUnicode, () => this.#push(this.#text(this.#u32()))],
    [opcodes.emptyTuple, () => this.#push([])],
    [opcodes.tuple1, () => this.#push(this.#pop(1))],
    [opcodes.tuple2, () => this.#push(this.#pop(2))],
    [opcodes.tuple3, () => this.#push(this.#pop(3))],
    [opcodes.tuple, () => this.#push(this.#popToMark())],
    [opcodes.mark, () => this.#mark()],
    [opcodes.emptyDict, () => this.#push(new Map())],
    [opcodes.setItem, () => this.#setItems(this.#pop(2))],
    [opcodes.setItems, () => this.#setItems(this.#popToMark())],
    [opcodes.binPut, () => this.#put(this.#u8())],
    [opcodes.longBinPut, () => this.#put(this.#u32())],
    [opcodes.binGet, () => this.#push(this.#get(this.#u8()))],
    [opcodes.longBinGet, () => this.#push(this.#get(this.#u32()))],
    [opcodes.global, () => this.#push(this.#global())],
    [opcodes.reduce, () => this.#reduce()],
    [opcodes.build, () => this.#build()],
    [opcodes.binPersId, () => this.#push(this.#world.persistent(this.#pop(1)[0]))],
  ]);

  #result(): unknown {
    if (this.#stack.length !== 1 || this.#marks.length > 0) throw this.error("must end with one value");
    if (this.#position !== this.#bytes.length) throw this.error(`must end where its ${this.#bytes.length} bytes do`);
    return this.#stack[0];
  }

  #take(length: number): Buffer {
    const end = this.#position + length;
    if (end > this.#bytes.length) throw this.error(`must go on within its ${this.#bytes.length} bytes`);
    const taken = this.#bytes.subarray(this.#position, end);
    this.#position = end;
    return taken;
  }

  #u8(): number {
    return this.#take(1)[0]!;
  }

  #u32(): number {
    return this.#take(4).readUInt32LE();
  }

  /** A two's complement of as many bytes as its first says. */
  #long(): number {
    const length = this.#u8();
    const bytes = this.#take(length);
    if (length === 0) return 0;
    if (length > mostLongBytes) throw this.error(`must have integers of at most ${mostLongBytes} bytes, not ${length}`);
    const value = BigInt.asIntN(8 * length, BigInt(`0x${Buffer.from(bytes).reverse().toString("hex")}`));
    if (!Number.isSafeInteger(Number(value))) throw this.error(`must have integers below 2^53, not ${value}`);
    return Number(value);
  }

  #text(length: number): string {
    const bytes = this.#take(length);
    const text = bytes.toString("utf8");
    if (!Buffer.from(text).equals(bytes)) throw this.error("must have strings in UTF-8");
    return text;
  }

  #push(value: unknown): void {
    this.#stack.push(value);
  }

  /** The uppermost values, which lie above the last mark. */
  #pop(count: number): unknown[] {
    if (this.#stack.length - count < (this.#marks.at(-1) ?? 0)) throw this.error("takes more values than there are");
    return this.#stack.splice(this.#stack.length - count);
  }

  #mark(): void {
    if (this.#marks.length === mostMarks) throw this.error(`must nest at most ${mostMarks} deep`);
    this.#marks.push(this.#stack.length);
  }

  #popToMark(): unknown[] {
    const mark = this.#marks.pop();
    if (mark === undefined) throw this.error("goes back to a mark, but has none");
    return this.#stack.splice(mark);
  }

  /** The uppermost value, which stays, and must be a dictionary. */
  #dictionary(): Map<string, unknown> {
    const [dictionary] = this.#pop(1);
    if (!(dictionary instanceof Map)) throw this.error("must put items into a dictionary");
    this.#push(dictionary);
    return dictionary;
  }

  #setItems(items: readonly unknown[]): void {
    const dictionary = this.#dictionary();
    if (items.length % 2 !== 0) throw this.error("must give each key a value");
    for (let i = 0; i < items.length; i += 2) {
      const key = items[i];
      if (typeof key !== "string") throw this.error("must have strings as keys");
      if (dictionary.has(key)) throw this.error(`must have the key ${show(key)} once`);
      dictionary.set(key, items[i + 1]);
    }
  }

  #put(index: number): void {
    if (index >= most.memo) throw this.error(`must keep at most ${most.memo} values, not number ${index}`);
    const [value] = this.#pop(1);
    this.#push(value);
    this.#memo.set(index, value);
  }

  #get(index: number): unknown {
    if (!this.#memo.has(index)) throw this.error(`must keep the value ${index} before it is used`);
    return this.#memo.get(index);
  }

  #global(): unknown {
    const name = `${this.#line()}.${this.#line()}`;
    if (this.#world.globals.has(name)) return this.#world.globals.get(name);
    throw this.error(`must name nothing but tensors of floats, not the global ${show(name)}`, "ERR_CRIA_UNSUPPORTED");
  }

  #line(): string {
    const end = this.#bytes.subarray(this.#position, this.#position + mostNameBytes).indexOf("\n");
    if (end === -1) throw this.error(`must have names of at most ${mostNameBytes} bytes`);
    const line = this.#text(end);
    this.#take(1);
    return line;
  }

  #reduce(): void {
    const [callee, args] = this.#pop(2);
    if (typeof callee !== "function" || !Array.isArray(args)) throw this.error("must call a function with a tuple");
    this.#push(callee(args));
  }

  /** The attributes of a dictionary: torch's state_dict has one, `_metadata`, which tells of versions of modules. */
  #build(): void {
    const [state] = this.#pop(1);
    this.#dictionary();
    if (!(state instanceof Map)) throw this.error("must have a dictionary of attributes");
  }
}
