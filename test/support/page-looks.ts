/** What a page looks like, asked of its document: functions whose text runs in a browser. */

/** Of the screen, so that these files need not know the browser's types. */
// biome-ignore lint/suspicious/noExplicitAny: a document's elements, in a file that is checked without them
type Any = any;
declare const document: Any;
declare const getComputedStyle: Any;

export type Colour = readonly [red: number, green: number, blue: number];

const called = (run: (...args: never[]) => unknown, ...args: unknown[]) =>
  `(${run})(${args.map((arg) => JSON.stringify(arg)).join(", ")})`;

/** Shown elements that reach past the page's sides, but for what scrolls in a frame of its own. */
export const outsideIn = (width: number): string =>
  called((most: number) => {
    const shown = [...document.body.querySelectorAll("*")].filter(
      (element: Any) => element.getClientRects().length > 0 && !element.parentElement.closest(".scroll"),
    );
    return shown.flatMap((element: Any) => {
      const { left, right } = element.getBoundingClientRect();
      return left < -0.5 || right > most + 0.5 ? [`${element.outerHTML.slice(0, 80)}: ${left} to ${right}`] : [];
    });
  }, width);

/** Texts of one picture that touch, or that lie outside of it. */
export const overlapsIn: string = called(() => {
  const found: string[] = [];
  for (const svg of document.querySelectorAll("svg")) {
    if (svg.getClientRects().length === 0) continue;
    const frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map((text: Any) => ({
      text: text.textContent,
      box: text.getBoundingClientRect(),
    }));
    texts.forEach(({ text, box }: Any, i: number) => {
      if (box.left < frame.left - 1 || box.right > frame.right + 1) found.push(`${text} leaves its picture`);
      for (const { text: other, box: next } of texts.slice(i + 1)) {
        const across = Math.min(box.right, next.right) - Math.max(box.left, next.left);
        // Lines of text are boxes higher than their letters: an eighth of them on each other is no touch.
        const down = Math.min(box.bottom, next.bottom) - Math.max(box.top, next.top);
        if (across > 0 && down > Math.min(box.height, next.height) / 8) found.push(`${text} and ${other}`);
      }
    });
  }
  return found;
});

/** Of the shown texts of pictures, in pixels of the screen. */
export const textSizesIn: string = called(() =>
  [...document.querySelectorAll("svg text")]
    .filter((text: Any) => text.getClientRects().length > 0)
    .map((text: Any) => {
      const { a: scale } = text.getScreenCTM();
      return Number.parseFloat(getComputedStyle(text).fontSize) * scale;
    }),
);

/** Of texts and drawn shapes with the paper, each colour once a kind of element (WCAG 2.2's contrast ratio). */
export const contrastsIn: string = called(() => {
  const parts = (colour: string) => colour.match(/[\d.]+/g)!.map(Number);
  const linear = (part: number) => (part <= 10 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]: number[]) => 0.2126 * linear(r!) + 0.7152 * linear(g!) + 0.0722 * linear(b!);
  const paper = parts(getComputedStyle(document.body).backgroundColor);
  const ratio = (colour: string, opacity: number) => {
    const mixed = parts(colour)
      .slice(0, 3)
      .map((part, i) => part * opacity + paper[i]! * (1 - opacity));
    const [low, high] = [light(mixed), light(paper)].sort((a, b) => a - b);
    return (high! + 0.05) / (low! + 0.05);
  };
  const shown = (element: Any) => element.getClientRects().length > 0;
  const texts = [...document.querySelectorAll("h1, h2, h3, p, a, th, td, dt, dd, figcaption, code, span, strong, text")]
    .filter(shown)
    .map((element: Any) => {
      const style = getComputedStyle(element);
      const colour = element.namespaceURI.endsWith("svg") ? style.fill : style.color;
      return { what: element.outerHTML.slice(0, 80), kind: "text", ratio: ratio(colour, 1) };
    });
  const shapes = [...document.querySelectorAll(".mark, .bar, .line, .roofs path")].filter(shown).map((element: Any) => {
    const style = getComputedStyle(element);
    const filled = style.fill !== "none";
    const colour = filled ? style.fill : style.stroke;
    return {
      what: element.outerHTML.slice(0, 80),
      kind: "shape",
      ratio: ratio(colour, filled ? Number(style.fillOpacity) : 1),
    };
  });
  return [...texts, ...shapes];
});

interface Mark {
  x: number;
  y: number;
}

interface Drawn {
  rooflines: { caption: string; marks: Mark[] }[];
  lines: { over: string; marks: Mark[] }[];
  shares: { op: string; shape: string; isa: string; tokens: string; text: string; height: number }[];
}

/** The figures that a reader measures in the shown pictures, by the numbers beside their axes. Runs in the browser. */
export function drawnIn(): Drawn {
  const shown = (element: Any) => element.getClientRects().length > 0;
  const middle = (element: Any) => {
    const box = element.getBoundingClientRect();
    return { x: (box.left + box.right) / 2, y: (box.top + box.bottom) / 2 };
  };
  const number = (element: Any) => Number(element.textContent.replaceAll(",", ""));
  const svgOf = (figure: Any) => [...figure.querySelectorAll("svg")].find(shown);

  /** From places to values, by the first and the last tick of an axis; linear where 0 is one of them. */
  const scale = (svg: Any, kind: "x" | "y") => {
    const lines = [...svg.querySelectorAll(".grid path")].map((path: Any) => path.getBoundingClientRect());
    const across = lines.filter((box: Any) => (kind === "x" ? box.width < 1 : box.height < 1));
    const places = across.map((box: Any) => (kind === "x" ? box.left : box.top));
    const values = [...svg.querySelectorAll(`.ticks .${kind}`)].map(number);
    const [from, to, low, high] = [places[0], places.at(-1), values[0]!, values.at(-1)!];
    return (place: number) => {
      const part = (place - from) / (to - from);
      return low === 0 ? part * high : low * (high / low) ** part;
    };
  };
  const marksOf = (svg: Any): Mark[] => {
    const [x, y] = [scale(svg, "x"), scale(svg, "y")];
    return [...svg.querySelectorAll(".mark")].map((mark: Any) => {
      // Where its outline begins to be drawn from: the point itself, and not the middle of a triangle.
      const [, left, top] = /^M(\S+) ([^a-z]+)/.exec(mark.getAttribute("d"))!.map(Number);
      const { a, d, e, f } = mark.getScreenCTM();
      return { x: x(a * left! + e), y: y(d * top! + f) };
    });
  };
  const sharesOf = (figure: Any) => {
    const svg = svgOf(figure);
    const named = (texts: Any[], at: (point: Mark) => number, place: number) =>
      texts.sort((a, b) => Math.abs(at(middle(a)) - place) - Math.abs(at(middle(b)) - place))[0].textContent;
    return [...svg.querySelectorAll(".bar")].map((bar: Any) => {
      const box = bar.getBoundingClientRect();
      const column = bar.previousElementSibling.getBoundingClientRect();
      return {
        op: figure.closest("section").querySelector("h3").textContent,
        shape: figure.querySelector("figcaption").textContent,
        isa: named([...svg.querySelectorAll(".y")], ({ y }) => y, box.bottom),
        tokens: named([...svg.querySelectorAll(".x")], ({ x }) => x, middle(bar).x),
        text: bar.nextElementSibling.textContent,
        height: box.height / column.height,
      };
    });
  };
  return {
    rooflines: [...document.querySelectorAll(".roofline")].map((figure: Any) => ({
      caption: figure.querySelector("figcaption").textContent,
      marks: marksOf(svgOf(figure)),
    })),
    lines: [...document.querySelectorAll(".lines")].map((figure: Any) => ({
      over: [...svgOf(figure).querySelectorAll(".titles text")].at(-1).textContent,
      marks: marksOf(svgOf(figure)),
    })),
    shares: [...document.querySelectorAll(".share")].flatMap(sharesOf),
  };
}
