// RudderStack's Node SDK as its documentation shows it: node rudder.cjs HOST WRITE_KEY USER COUNT
const RudderAnalytics = require("@rudderstack/rudder-sdk-node");

const [dataPlaneUrl, writeKey, userId, count] = process.argv.slice(2);
const client = new RudderAnalytics(writeKey, { dataPlaneUrl, flushAt: 20, logLevel: "error" });

const timestamp = new Date("2026-03-01T10:20:30.456Z");
const anonymousId = `${userId}-device`;
client.identify({ userId, anonymousId, traits: { plan: "gold" }, timestamp });
client.page({ userId, category: "Docs", name: "Node SDK", properties: { section: "events" }, timestamp });
client.screen({ userId, name: "Basket", properties: { items: 2 }, timestamp });
client.group({ userId, groupId: "company-1", traits: { industry: "shipping" }, timestamp });
client.track({
  userId, event: "Item Purchased", timestamp,
  properties: { revenue: 39.95, shipping: "2-day", gift: true, coupons: ["a", "b"], size: { unit: "cm", height: 3 } },
  context: { locale: "en-GB", app: { name: "shop", version: "1.2" } },
});
for (let number = 0; number < Number(count); number++) client.track({ userId, event: "Counted", properties: { number } });

(async () => {
  // What is queued goes out in batches of flushAt; each flush sends one.
  for (let batch = 0; batch <= Number(count) / 20 + 1; batch++) await client.flush();
})().catch((error) => {
  console.error(String(error));
  process.exitCode = 1;
});
