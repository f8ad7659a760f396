import type { GenerateOptions } from "../generate-options.js";
import { type Arguments, given } from "./arguments.js";

/** What every command that says something takes. */
export const samplingOptions = {
  temperature: { value: "T", help: "0 takes the best token, higher is more varied; 0.8 by default" },
  "top-k": { value: "K", help: "only the K best tokens, 0 for all; 40 by default" },
  "typical-p": {
    value: "P",
    help: "only the tokens nearest to the expected surprisal that sum to the probability P; 1, all, by default",
  },
  "top-p": { value: "P", help: "only the best tokens that sum to the probability P; 0.95 by default" },
  "min-p": { value: "P", help: "only tokens at least P times as probable as the best; 0.05 by default" },
  "repeat-penalty": { value: "R", help: "above 1 against repetition; 1 by default" },
  "presence-penalty": { value: "X", help: "taken from the logits of tokens that were generated; 0 by default" },
  "frequency-penalty": { value: "X", help: "the same, for each time that they were; 0 by default" },
  "logit-bias": { value: "ID=B", multiple: true, help: "adds B to a token's logit, -inf bans it; several times" },
  seed: { value: "S", help: "the same seed gives the same text; random by default" },
  "min-tokens": { value: "N", help: "neither the model nor --stop-tokens ends the text before this many tokens" },
  stop: { value: "T", multiple: true, help: "ends the text before T; several times for several" },
  "stop-tokens": { value: "1,2,3", help: "ids that end the text, before them" },
  "ignore-eos": { help: "never end the text before --max-tokens" },
  window: { help: "goes on where the context is full: the beginning stays, of the rest the older half is forgotten" },
} as const;

/** Those options as the library has them, which checks them. */
export const samplingOf = (args: Arguments<keyof typeof samplingOptions>) =>
  given({
    temperature: args.number("temperature"),
    topK: args.integer("top-k"),
    topP: args.number("top-p"),
    minP: args.number("min-p"),
    repeatPenalty: args.number("repeat-penalty"),
    presencePenalty: args.number("presence-penalty"),
    frequencyPenalty: args.number("frequency-penalty"),
    typicalP: args.number("typical-p"),
    logitBias: args.numbersById("logit-bias"),
    seed: args.integer("seed"),
    minTokens: args.integer("min-tokens"),
    stop: args.texts("stop"),
    stopTokens: args.integers("stop-tokens"),
    ignoreEos: args.flag("ignore-eos"),
    window: args.flag("window") ? {} : undefined,
  }) satisfies GenerateOptions;
