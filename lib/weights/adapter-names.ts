/** What tells an adapter from a model, for the readers of both. */

/** The settings in a folder that PEFT wrote. */
export const peftConfig = "adapter_config.json";

/** What is told of an adapter that was given as a model. */
export const adapterProblem = "is an adapter: give its model, and the adapter beside it (adapters, or --lora)";
