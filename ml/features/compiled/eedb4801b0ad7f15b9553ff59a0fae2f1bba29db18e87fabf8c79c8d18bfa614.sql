WITH asked AS (
  SELECT DISTINCT profile_id FROM unnest($2::uuid[]) AS ids (profile_id)
), nodes AS (
  SELECT link.profile_id, link.node_id
  FROM profiles.node_profiles AS link
  WHERE link.tenant_id = $1 AND link.profile_id = ANY($2::uuid[]) AND link.since <= $3::timestamptz
    AND NOT EXISTS (
      SELECT FROM profiles.node_profiles AS later
      WHERE later.tenant_id = $1 AND later.node_id = link.node_id
        AND later.since > link.since AND later.since <= $3::timestamptz
    )
), scoped AS (
  SELECT
    asked.profile_id,
    $3::timestamptz AS as_of,
    event.ts,
    (date_part('epoch', $3::timestamptz - event.ts) * 1000000)::bigint AS age_us,
    (event.ts AT TIME ZONE 'UTC')::date - DATE '1970-01-01' AS day,
    event.type,
    event.name,
    coalesce(event.texts ->> 'order_id', event.numbers ->> 'order_id') COLLATE "C" AS text_0,
    (event.numbers ->> 'revenue')::numeric(38, 9) AS number_1,
    (event.numbers ->> 'total')::numeric(38, 9) AS number_2
  FROM asked
  LEFT JOIN (
    nodes
    JOIN profiles.timeline AS event
      ON event.tenant_id = $1 AND event.node_id = nodes.node_id
      AND event.ts < $3::timestamptz AND event.known_at <= $3::timestamptz
  ) ON nodes.profile_id = asked.profile_id
)
SELECT
  "t0"."profile_id",
  "t0"."as_of",
  COUNT(DISTINCT "t0"."text_0") FILTER(WHERE
    (
      "t0"."type" = 'track'
    ) AND "t0"."name" IN ('Order Completed')) AS "orders_count",
  COUNT(DISTINCT "t0"."text_0") FILTER(WHERE
    (
      "t0"."type" = 'track'
    )
    AND "t0"."name" IN ('Order Completed')
    AND (
      "t0"."age_us" <= 7776000000000
    )) AS "orders_90d",
  COALESCE(
    SUM("t0"."number_1") FILTER(WHERE
      (
        "t0"."type" = 'track'
      ) AND "t0"."name" IN ('Order Completed')),
    0
  ) AS "revenue_total",
  COALESCE(
    SUM("t0"."number_1") FILTER(WHERE
      (
        "t0"."type" = 'track'
      )
      AND "t0"."name" IN ('Order Completed')
      AND (
        "t0"."age_us" <= 7776000000000
      )),
    0
  ) AS "revenue_90d",
  COALESCE(
    SUM("t0"."number_2") FILTER(WHERE
      (
        "t0"."type" = 'track'
      ) AND "t0"."name" IN ('Order Refunded')),
    0
  ) AS "refunds_total",
  CAST(MIN("t0"."age_us") FILTER(WHERE
    (
      "t0"."type" = 'track'
    ) AND "t0"."name" IN ('Order Completed')) AS DOUBLE PRECISION) / 86400000000 AS "days_since_last_order",
  CAST(MAX("t0"."age_us") FILTER(WHERE
    (
      "t0"."type" = 'track'
    ) AND "t0"."name" IN ('Order Completed')) AS DOUBLE PRECISION) / 86400000000 AS "days_since_first_order",
  CAST((
    CAST((
      MAX("t0"."age_us") FILTER(WHERE
        (
          "t0"."type" = 'track'
        ) AND "t0"."name" IN ('Order Completed')) - MIN("t0"."age_us") FILTER(WHERE
        (
          "t0"."type" = 'track'
        ) AND "t0"."name" IN ('Order Completed'))
    ) AS DOUBLE PRECISION) / 86400000000
  ) AS DOUBLE PRECISION) / NULLIF(
    COUNT(DISTINCT "t0"."day") FILTER(WHERE
      (
        "t0"."type" = 'track'
      ) AND "t0"."name" IN ('Order Completed')) - 1,
    0
  ) AS "mean_order_interval_days",
  COUNT(DISTINCT "t0"."day") FILTER(WHERE
    (
      (
        (
          "t0"."type" = 'track'
        )
        AND "t0"."name" IN ('Order Completed', 'Product Viewed', 'Product Added')
      )
      OR (
        "t0"."type" = 'page'
      )
    )
    AND (
      "t0"."age_us" <= 7776000000000
    )) AS "active_days_90d",
  COUNT("t0"."ts") FILTER(WHERE
    (
      "t0"."type" = 'track'
    )
    AND "t0"."name" IN ('Ticket Opened')
    AND (
      "t0"."age_us" <= 7776000000000
    )) AS "tickets_90d",
  MAX("t0"."ts") AS "newest_event"
FROM "scoped" AS "t0"
GROUP BY
  1,
  2
