import { basename } from "node:path";

import { CriaError, outOfRange, wrongType } from "../../errors.js";
import { builtIn, templateNames, templateOfModel } from "./built-in.js";
import { codeLlama70b } from "./code-llama-70b.js";
import { JinjaTemplate } from "./jinja.js";
import type { ChatTemplate } from "./template.js";

/** What there is to tell a model's template by. */
export interface ModelIdentity {
  readonly path: string;
  readonly name: string | undefined;
  /** The Jinja template that its files have. */
  readonly chatTemplate?: string | undefined;
}

/**
 * The template of a chat: the one asked for, or the model's own, or the one that its name tells of.
 *
 * @param wanted the name of one that is built in, or a Jinja template, which has braces
 * @throws TypeError or RangeError where `wanted` is neither; CriaError ERR_CRIA_TEMPLATE where there is none to be
 *   found
 */
export function chooseTemplate(model: ModelIdentity, wanted?: string): ChatTemplate {
  if (wanted !== undefined) return wantedTemplate(model, wanted);
  const found = findTemplate(model);
  if (found !== undefined) return found;
  throw new CriaError(
    "ERR_CRIA_TEMPLATE",
    `template: must be given, for the model has none of its own and no name that tells: ${templateNames.join(", ")}, or a Jinja template`,
  );
}

/** The model's own template, or the one that its name, or its file's, tells of. */
export function findTemplate(model: ModelIdentity): ChatTemplate | undefined {
  if (model.chatTemplate !== undefined) return ownTemplate(model, model.chatTemplate);
  return [model.name ?? "", basename(model.path)].map(templateOfModel).find((template) => template !== undefined);
}

function wantedTemplate(model: ModelIdentity, wanted: string): ChatTemplate {
  if (typeof wanted !== "string") throw wrongType("template", "a string", wanted);
  const known = builtIn(wanted);
  if (known !== undefined) return known;
  if (isJinja(wanted)) return jinjaTemplate(model, wanted);
  throw outOfRange("template", `${templateNames.join(", ")}, or a Jinja template`, wanted);
}

/** Whether a text is a Jinja template and no name: it writes something, or does. */
export const isJinja = (text: string): boolean => /\{[{%]/.test(text);

/**
 * Code Llama 70B's Jinja counts on a tokenizer that swallows the spaces around its token; the one built in does not.
 */
const ownTemplate = (model: ModelIdentity, source: string): ChatTemplate =>
  /Destination: user/.test(source) && source.includes("<step>") ? codeLlama70b : jinjaTemplate(model, source);

/** The one that each model had last: it knows how answers end, which takes two renderings to find out. */
const lastOf = new WeakMap<ModelIdentity, JinjaTemplate>();

function jinjaTemplate(model: ModelIdentity, source: string): JinjaTemplate {
  const last = lastOf.get(model);
  if (last?.source === source) return last;
  const template = new JinjaTemplate(source);
  lastOf.set(model, template);
  return template;
}
