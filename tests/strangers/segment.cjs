// Segment's Node SDK as its documentation shows it, pointed at another host: node segment.cjs HOST WRITE_KEY USER COUNT
const { Analytics } = require("@segment/analytics-node");

const [host, writeKey, userId, count] = process.argv.slice(2);
const analytics = new Analytics({ writeKey, host, flushAt: 15 });
const failures = [];
analytics.on("error", (error) => failures.push(error.code ?? String(error)));

const timestamp = new Date("2026-03-01T10:20:30.456Z");
const anonymousId = `${userId}-device`;
analytics.identify({ userId, anonymousId, traits: { plan: "gold" }, timestamp });
analytics.page({ userId, category: "Docs", name: "Node SDK", properties: { section: "events" }, timestamp });
analytics.screen({ userId, name: "Basket", properties: { items: 2 }, timestamp });
analytics.group({ userId, groupId: "company-1", traits: { industry: "shipping" }, timestamp });
analytics.track({
  userId, event: "Item Purchased", timestamp,
  properties: { revenue: 39.95, shipping: "2-day", gift: true, coupons: ["a", "b"], size: { unit: "cm", height: 3 } },
  context: { locale: "en-GB", app: { name: "shop", version: "1.2" } },
});
for (let number = 0; number < Number(count); number++) analytics.track({ userId, event: "Counted", properties: { number } });
analytics.closeAndFlush().then(() => {
  if (failures.length) console.error(failures.join("\n"));
  process.exitCode = failures.length ? 1 : 0;
});
