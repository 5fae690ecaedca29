// Draws the charts of the overview. Data and words come in attributes, colours from the style sheet.
"use strict";

(() => {
  const drawn = new Map();
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const percent = (share) => `${Math.round(100 * share)}%`;

  const common = () => ({
    animation: !calm.matches,
    animationDuration: 300,
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: colour("soft") },
    grid: { left: 52, right: 16, top: 14, bottom: 46, outerBoundsMode: "none" },
    // Rich text is drawn on the canvas: the page's policy allows no inline style, which an HTML tooltip would need.
    tooltip: {
      renderMode: "richText",
      confine: true,
      backgroundColor: colour("card"),
      borderColor: colour("line"),
      textStyle: { color: colour("ink"), fontSize: 13 },
    },
  });

  const axis = (name, more) => ({
    name,
    nameLocation: "middle",
    nameGap: 30,
    nameTextStyle: { color: colour("soft"), fontSize: 12 },
    axisLabel: { color: colour("soft"), fontSize: 12 },
    axisLine: { show: false },
    axisTick: { show: false },
    splitLine: { lineStyle: { color: colour("line") } },
    ...more,
  });

  const histogram = (values, words) => {
    const steps = values.length;
    const label = (place) => `${percent(place / steps)}–${percent((place + 1) / steps)}`;
    return {
      ...common(),
      xAxis: axis(words.across, {
        type: "category",
        data: values.map((_, place) => label(place)),
        axisLabel: {
          color: colour("soft"),
          fontSize: 12,
          interval: 0,
          formatter: (_, place) => (place % 2 ? "" : percent(place / steps)),
          align: "left",
          padding: [0, 0, 0, -12],
        },
      }),
      yAxis: axis("", { type: "value", minInterval: 1, splitNumber: 4 }),
      tooltip: { ...common().tooltip, trigger: "axis", axisPointer: { type: "shadow" }, formatter: ([bar]) => `${bar.name}\n${words.up}: ${bar.value.toLocaleString("en")}` },
      series: [
        {
          type: "bar",
          barCategoryGap: "8%",
          data: values.map((value, place) => ({
            value,
            itemStyle: { color: colour(place < steps * 0.4 ? "calm" : place < steps * 0.7 ? "amber" : "warm"), borderRadius: [3, 3, 0, 0] },
          })),
        },
      ],
    };
  };

  const calibration = (bins, words) => {
    const size = { min: 0, max: 1, type: "value", interval: 0.25 };
    const points = bins.map((bin) => [bin.mean_probability, bin.observed_rate, bin.row_count]);
    return {
      ...common(),
      grid: { ...common().grid, left: 68 },
      xAxis: axis(words.across, { ...size, axisLabel: { color: colour("soft"), fontSize: 12, formatter: percent } }),
      yAxis: axis(words.up, { ...size, nameGap: 44, axisLabel: { color: colour("soft"), fontSize: 12, formatter: percent } }),
      tooltip: {
        ...common().tooltip,
        formatter: ({ value }) =>
          Array.isArray(value) && value.length === 3
            ? `${words.across}: ${percent(value[0])}\n${words.up}: ${percent(value[1])}\n${words.rows}: ${value[2].toLocaleString("en")}`
            : "",
      },
      series: [
        { type: "line", silent: true, symbol: "none", data: [[0, 0], [1, 1]], lineStyle: { color: colour("soft"), type: "dashed", width: 1 } },
        { type: "line", data: points, symbol: "circle", symbolSize: 9, itemStyle: { color: colour("accent") }, lineStyle: { color: colour("accent"), width: 1.5, opacity: 0.5 } },
      ],
    };
  };

  const kinds = { histogram, calibration };

  const draw = (element) => {
    const { chart, values, ...words } = element.dataset;
    const instance = drawn.get(element) ?? window.echarts.init(element, null, { renderer: "canvas" });
    instance.setOption(kinds[chart](JSON.parse(values), words), true);
    if (!drawn.has(element)) {
      drawn.set(element, instance);
      new ResizeObserver(() => instance.resize()).observe(element);
    }
  };

  const drawAll = () => document.querySelectorAll("[data-chart]").forEach(draw);
  dark.addEventListener("change", drawAll);
  drawAll();
})();
