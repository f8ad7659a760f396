import { type ChatSession, turnsText } from "./chat-session.js";
import { columns } from "./command.js";

/** What a command of a chat says, and whether the chat ends with it. */
export interface CommandResult {
  readonly told: string;
  readonly ends?: true;
}

interface ChatCommand {
  /** What stands for its operand in the help; without one it takes none. */
  readonly operand?: string;
  readonly help: string;
  run(session: ChatSession, operand: string): Promise<CommandResult> | CommandResult;
}

const commands: Readonly<Record<string, ChatCommand>> = {
  "/save": {
    operand: "FILE",
    help: "write the chat to a file, as JSON",
    run: async (session, file) => {
      if (file === "") return { told: "/save: a file must be named" };
      await session.save(file);
      return { told: `saved ${turnsText(session.turns)}` };
    },
  },
  "/load": {
    operand: "FILE",
    help: "go on with a chat from a file",
    run: async (session, file) => {
      if (file === "") return { told: "/load: a file must be named" };
      await session.load(file);
      return { told: `loaded ${turnsText(session.turns)}` };
    },
  },
  "/system": {
    operand: "TEXT",
    help: "what the system says from now on, - for nothing; without a text, what it says",
    run: (session, text) => {
      if (text !== "") session.system = text === "-" ? undefined : text;
      const { system } = session;
      return { told: system === undefined ? "the system says nothing of ours" : `the system says: ${system}` };
    },
  },
  "/reset": {
    help: "forget all that was said, but for what the system says",
    run: (session) => {
      session.reset();
      return { told: "forgotten" };
    },
  },
  "/undo": {
    help: "forget the last question and its answer",
    run: (session) => ({ told: session.undo() ? `left: ${turnsText(session.turns)}` : "there is nothing to forget" }),
  },
  "/help": {
    help: "print this help",
    run: () => ({ told: help() }),
  },
  "/exit": {
    help: "end; Ctrl-D does, and Ctrl-C where nothing is written",
    run: () => ({ told: "", ends: true }),
  },
};

/** A message that begins with a slash is written with two. */
export const isCommand = (text: string): boolean => /^\/(?!\/)/.test(text);

/** @throws as what the command does */
export async function runCommand(session: ChatSession, text: string): Promise<CommandResult> {
  const [, name = "", operand = ""] = /^(\S+)\s*(.*)$/s.exec(text.trim()) ?? [];
  if (!Object.hasOwn(commands, name)) return { told: `${name}: is not a command; /help lists them` };
  return await commands[name]!.run(session, operand);
}

function help(): string {
  const rows = Object.entries(commands).map(([name, { operand, help }]) => [
    operand === undefined ? name : `${name} ${operand}`,
    help,
  ]) as [string, string][];
  return (
    `${columns(rows)}Ctrl-C stops an answer. A line that ends with a backslash goes on in the next; so do lines that are\n` +
    "pasted. A message that begins with a slash is written with two."
  );
}
