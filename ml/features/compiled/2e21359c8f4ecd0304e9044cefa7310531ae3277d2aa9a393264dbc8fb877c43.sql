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
  "t2"."profile_id",
  "t2"."as_of",
  "t2"."leaf_0_0" AS "orders_30d",
  "t2"."leaf_1_0" AS "orders_365d",
  "t2"."leaf_2_0" AS "orders_previous_90d",
  "t2"."leaf_3_0" AS "revenue_30d",
  "t2"."leaf_4_0" AS "revenue_365d",
  "t2"."leaf_5_0" AS "revenue_previous_90d",
  "t2"."leaf_6_0" AS "largest_order",
  "t2"."leaf_7_0" AS "smallest_order",
  "t2"."leaf_8_0" AS "median_order_value",
  CAST("t2"."leaf_9_0" AS DOUBLE PRECISION) / NULLIF(CAST("t2"."leaf_9_1" AS DOUBLE PRECISION), 0) AS "average_order_value",
  CAST("t2"."leaf_10_0" AS DOUBLE PRECISION) / NULLIF(CAST("t2"."leaf_10_1" AS DOUBLE PRECISION), 0) AS "average_order_value_90d",
  CAST("t2"."leaf_11_0" AS DOUBLE PRECISION) / NULLIF(CAST("t2"."leaf_11_1" AS DOUBLE PRECISION), 0) AS "order_trend_90d",
  CAST("t2"."leaf_12_0" AS DOUBLE PRECISION) / NULLIF(CAST("t2"."leaf_12_1" AS DOUBLE PRECISION), 0) AS "revenue_trend_90d",
  CAST("t2"."leaf_13_0" AS DOUBLE PRECISION) - CAST("t2"."leaf_13_1" AS DOUBLE PRECISION) AS "order_change_90d",
  CAST("t2"."leaf_14_0" AS DOUBLE PRECISION) - CAST("t2"."leaf_14_1" AS DOUBLE PRECISION) AS "net_revenue",
  CAST("t2"."leaf_15_0" AS DOUBLE PRECISION) / NULLIF(CAST("t2"."leaf_15_1" AS DOUBLE PRECISION), 0) AS "refund_share",
  "t2"."leaf_16_0" AS "refunds_count",
  "t2"."leaf_17_0" AS "days_since_last_refund",
  "t2"."leaf_18_0" AS "median_order_interval_days",
  "t2"."leaf_19_0" AS "std_order_interval_days",
  "t2"."leaf_20_0" AS "mean_order_event_interval_days",
  "t2"."leaf_21_0" AS "order_days_365d",
  "t2"."newest_event"
FROM (
  SELECT
    "t1"."profile_id",
    "t1"."as_of",
    COUNT(DISTINCT "t1"."text_0") FILTER(WHERE
      (
        "t1"."type" = 'track'
      )
      AND "t1"."name" IN ('Order Completed')
      AND (
        "t1"."age_us" <= 2592000000000
      )) AS "leaf_0_0",
    COUNT(DISTINCT "t1"."text_0") FILTER(WHERE
      (
        "t1"."type" = 'track'
      )
      AND "t1"."name" IN ('Order Completed')
      AND (
        "t1"."age_us" <= 31536000000000
      )) AS "leaf_1_0",
    COUNT(DISTINCT "t1"."text_0") FILTER(WHERE
      (
        "t1"."type" = 'track'
      )
      AND "t1"."name" IN ('Order Completed')
      AND (
        "t1"."age_us" > 7776000000000
      )
      AND (
        "t1"."age_us" <= 15552000000000
      )) AS "leaf_2_0",
    COALESCE(
      SUM("t1"."number_1") FILTER(WHERE
        (
          "t1"."type" = 'track'
        )
        AND "t1"."name" IN ('Order Completed')
        AND (
          "t1"."age_us" <= 2592000000000
        )),
      0
    ) AS "leaf_3_0",
    COALESCE(
      SUM("t1"."number_1") FILTER(WHERE
        (
          "t1"."type" = 'track'
        )
        AND "t1"."name" IN ('Order Completed')
        AND (
          "t1"."age_us" <= 31536000000000
        )),
      0
    ) AS "leaf_4_0",
    COALESCE(
      SUM("t1"."number_1") FILTER(WHERE
        (
          "t1"."type" = 'track'
        )
        AND "t1"."name" IN ('Order Completed')
        AND (
          "t1"."age_us" > 7776000000000
        )
        AND (
          "t1"."age_us" <= 15552000000000
        )),
      0
    ) AS "leaf_5_0",
    MAX("t1"."number_1") FILTER(WHERE
      (
        "t1"."type" = 'track'
      ) AND "t1"."name" IN ('Order Completed')) AS "leaf_6_0",
    MIN("t1"."number_1") FILTER(WHERE
      (
        "t1"."type" = 'track'
      ) AND "t1"."name" IN ('Order Completed')) AS "leaf_7_0",
    PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY
      CAST("t1"."number_1" AS DOUBLE PRECISION)) FILTER(WHERE
      (
        "t1"."type" = 'track'
      ) AND "t1"."name" IN ('Order Completed')) AS "leaf_8_0",
    COALESCE(
      SUM("t1"."number_1") FILTER(WHERE
        (
          "t1"."type" = 'track'
        ) AND "t1"."name" IN ('Order Completed')),
      0
    ) AS "leaf_9_0",
    COUNT(DISTINCT "t1"."text_0") FILTER(WHERE
      (
        "t1"."type" = 'track'
      ) AND "t1"."name" IN ('Order Completed')) AS "leaf_9_1",
    COALESCE(
      SUM("t1"."number_1") FILTER(WHERE
        (
          "t1"."type" = 'track'
        )
        AND "t1"."name" IN ('Order Completed')
        AND (
          "t1"."age_us" <= 7776000000000
        )),
      0
    ) AS "leaf_10_0",
    COUNT(DISTINCT "t1"."text_0") FILTER(WHERE
      (
        "t1"."type" = 'track'
      )
      AND "t1"."name" IN ('Order Completed')
      AND (
        "t1"."age_us" <= 7776000000000
      )) AS "leaf_10_1",
    COUNT(DISTINCT "t1"."text_0") FILTER(WHERE
      (
        "t1"."type" = 'track'
      )
      AND "t1"."name" IN ('Order Completed')
      AND (
        "t1"."age_us" <= 7776000000000
      )) AS "leaf_11_0",
    COUNT(DISTINCT "t1"."text_0") FILTER(WHERE
      (
        "t1"."type" = 'track'
      )
      AND "t1"."name" IN ('Order Completed')
      AND (
        "t1"."age_us" > 7776000000000
      )
      AND (
        "t1"."age_us" <= 15552000000000
      )) AS "leaf_11_1",
    COALESCE(
      SUM("t1"."number_1") FILTER(WHERE
        (
          "t1"."type" = 'track'
        )
        AND "t1"."name" IN ('Order Completed')
        AND (
          "t1"."age_us" <= 7776000000000
        )),
      0
    ) AS "leaf_12_0",
    COALESCE(
      SUM("t1"."number_1") FILTER(WHERE
        (
          "t1"."type" = 'track'
        )
        AND "t1"."name" IN ('Order Completed')
        AND (
          "t1"."age_us" > 7776000000000
        )
        AND (
          "t1"."age_us" <= 15552000000000
        )),
      0
    ) AS "leaf_12_1",
    COUNT(DISTINCT "t1"."text_0") FILTER(WHERE
      (
        "t1"."type" = 'track'
      )
      AND "t1"."name" IN ('Order Completed')
      AND (
        "t1"."age_us" <= 7776000000000
      )) AS "leaf_13_0",
    COUNT(DISTINCT "t1"."text_0") FILTER(WHERE
      (
        "t1"."type" = 'track'
      )
      AND "t1"."name" IN ('Order Completed')
      AND (
        "t1"."age_us" > 7776000000000
      )
      AND (
        "t1"."age_us" <= 15552000000000
      )) AS "leaf_13_1",
    COALESCE(
      SUM("t1"."number_1") FILTER(WHERE
        (
          "t1"."type" = 'track'
        ) AND "t1"."name" IN ('Order Completed')),
      0
    ) AS "leaf_14_0",
    COALESCE(
      SUM("t1"."number_2") FILTER(WHERE
        (
          "t1"."type" = 'track'
        ) AND "t1"."name" IN ('Order Refunded')),
      0
    ) AS "leaf_14_1",
    COALESCE(
      SUM("t1"."number_2") FILTER(WHERE
        (
          "t1"."type" = 'track'
        ) AND "t1"."name" IN ('Order Refunded')),
      0
    ) AS "leaf_15_0",
    COALESCE(
      SUM("t1"."number_1") FILTER(WHERE
        (
          "t1"."type" = 'track'
        ) AND "t1"."name" IN ('Order Completed')),
      0
    ) AS "leaf_15_1",
    COUNT("t1"."ts") FILTER(WHERE
      (
        "t1"."type" = 'track'
      ) AND "t1"."name" IN ('Order Refunded')) AS "leaf_16_0",
    CAST(MIN("t1"."age_us") FILTER(WHERE
      (
        "t1"."type" = 'track'
      ) AND "t1"."name" IN ('Order Refunded')) AS DOUBLE PRECISION) / 86400000000 AS "leaf_17_0",
    CAST(PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY
      CAST("t1"."gap_0" AS DOUBLE PRECISION)) AS DOUBLE PRECISION) / 86400000000 AS "leaf_18_0",
    CAST(SQRT(
      CAST((
        CAST(COUNT("t1"."gap_0") AS DECIMAL(38, 0)) * CAST(SUM(
          CAST(CAST(FLOOR(CAST((
            "t1"."gap_0"
          ) AS DOUBLE PRECISION) / (
            1000000
          )) AS BIGINT) AS DECIMAL(38, 0)) * CAST(CAST(FLOOR(CAST((
            "t1"."gap_0"
          ) AS DOUBLE PRECISION) / (
            1000000
          )) AS BIGINT) AS DECIMAL(38, 0))
        ) AS DECIMAL(38, 0))
      ) - (
        CAST(SUM(
          CAST(CAST(FLOOR(CAST((
            "t1"."gap_0"
          ) AS DOUBLE PRECISION) / (
            1000000
          )) AS BIGINT) AS DECIMAL(38, 0))
        ) AS DECIMAL(38, 0)) * CAST(SUM(
          CAST(CAST(FLOOR(CAST((
            "t1"."gap_0"
          ) AS DOUBLE PRECISION) / (
            1000000
          )) AS BIGINT) AS DECIMAL(38, 0))
        ) AS DECIMAL(38, 0))
      ) AS DOUBLE PRECISION) / NULLIF(
        CAST(COUNT("t1"."gap_0") AS DOUBLE PRECISION) * CAST(COUNT("t1"."gap_0") - 1 AS DOUBLE PRECISION),
        0
      )
    ) AS DOUBLE PRECISION) / 86400 AS "leaf_19_0",
    CAST((
      CAST((
        MAX("t1"."age_us") FILTER(WHERE
          (
            "t1"."type" = 'track'
          ) AND "t1"."name" IN ('Order Completed')) - MIN("t1"."age_us") FILTER(WHERE
          (
            "t1"."type" = 'track'
          ) AND "t1"."name" IN ('Order Completed'))
      ) AS DOUBLE PRECISION) / 86400000000
    ) AS DOUBLE PRECISION) / NULLIF(
      COUNT("t1"."ts") FILTER(WHERE
        (
          "t1"."type" = 'track'
        ) AND "t1"."name" IN ('Order Completed')) - 1,
      0
    ) AS "leaf_20_0",
    COUNT(DISTINCT "t1"."day") FILTER(WHERE
      (
        "t1"."type" = 'track'
      )
      AND "t1"."name" IN ('Order Completed')
      AND (
        "t1"."age_us" <= 31536000000000
      )) AS "leaf_21_0",
    MAX("t1"."ts") AS "newest_event"
  FROM (
    SELECT
      "t0"."profile_id",
      "t0"."as_of",
      "t0"."ts",
      "t0"."age_us",
      "t0"."day",
      "t0"."type",
      "t0"."name",
      "t0"."text_0",
      "t0"."number_1",
      "t0"."number_2",
      CASE
        WHEN (
          "t0"."type" = 'track'
        ) AND "t0"."name" IN ('Order Completed')
        THEN LAG("t0"."age_us") OVER (
          PARTITION BY "t0"."profile_id", "t0"."as_of", (
            "t0"."type" = 'track'
          ) AND "t0"."name" IN ('Order Completed')
          ORDER BY "t0"."age_us" DESC NULLS LAST
          ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        ) - "t0"."age_us"
        ELSE CAST(NULL AS BIGINT)
      END AS "gap_0"
    FROM "scoped" AS "t0"
  ) AS "t1"
  GROUP BY
    1,
    2
) AS "t2"
