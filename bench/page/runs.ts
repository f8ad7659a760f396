/** Whether a report is of one run, or of several that were joined, each with its command. */
import type { Report } from "../schema.js";

export const inRuns = ({ command }: Report): string => (command.includes("\n") ? "in these runs" : "in the same run");
