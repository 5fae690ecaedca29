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
    nullif(event.channel, '') COLLATE "C" AS channel,
    coalesce(event.texts ->> 'product_id', event.numbers ->> 'product_id') COLLATE "C" AS text_0,
    coalesce(event.texts ->> 'order_id', event.numbers ->> 'order_id') COLLATE "C" AS text_1,
    coalesce(event.texts ->> 'category', event.numbers ->> 'category') COLLATE "C" AS text_2,
    coalesce(event.texts ->> 'topic', event.numbers ->> 'topic') COLLATE "C" AS text_3
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
  "t2"."leaf_0_0" AS "sessions_30d",
  "t2"."leaf_1_0" AS "sessions_90d",
  "t2"."leaf_2_0" AS "sessions_count",
  CAST("t2"."leaf_3_0" AS DOUBLE PRECISION) / NULLIF(CAST("t2"."leaf_3_1" AS DOUBLE PRECISION), 0) AS "events_per_session_90d",
  "t2"."leaf_4_0" AS "median_visit_interval_days",
  "t2"."leaf_5_0" AS "days_since_last_visit",
  "t2"."leaf_6_0" AS "days_since_first_visit",
  "t2"."leaf_7_0" AS "active_days_30d",
  "t2"."leaf_8_0" AS "active_days_365d",
  "t2"."leaf_9_0" AS "product_views_30d",
  "t2"."leaf_10_0" AS "product_views_90d",
  "t2"."leaf_11_0" AS "products_viewed_90d",
  "t2"."leaf_12_0" AS "cart_additions_90d",
  "t2"."leaf_13_0" AS "page_views_30d",
  CAST("t2"."leaf_14_0" AS DOUBLE PRECISION) / NULLIF(CAST("t2"."leaf_14_1" AS DOUBLE PRECISION), 0) AS "cart_to_view_ratio_90d",
  CAST("t2"."leaf_15_0" AS DOUBLE PRECISION) / NULLIF(CAST("t2"."leaf_15_1" AS DOUBLE PRECISION), 0) AS "order_to_view_ratio_90d",
  CAST("t2"."leaf_16_0" AS DOUBLE PRECISION) / NULLIF(CAST("t2"."leaf_16_1" AS DOUBLE PRECISION), 0) AS "visit_trend_30d",
  "t2"."leaf_17_0" AS "most_viewed_category_90d",
  "t2"."leaf_18_0" AS "last_viewed_category",
  "t2"."leaf_19_0" AS "preferred_channel",
  "t2"."leaf_20_0" AS "first_channel",
  "t2"."leaf_21_0" AS "last_channel",
  "t2"."leaf_22_0" AS "channels_count",
  CAST("t2"."leaf_23_0" AS DOUBLE PRECISION) / NULLIF(CAST("t2"."leaf_23_1" AS DOUBLE PRECISION), 0) AS "browser_share",
  "t2"."leaf_24_0" AS "tickets_count",
  "t2"."leaf_25_0" AS "last_ticket_topic",
  "t2"."leaf_26_0" AS "days_since_last_ticket",
  CAST("t2"."leaf_27_0" AS DOUBLE PRECISION) / NULLIF(CAST("t2"."leaf_27_1" AS DOUBLE PRECISION), 0) AS "tickets_per_order",
  "t2"."newest_event"
FROM (
  SELECT
    "t1"."profile_id",
    "t1"."as_of",
    COUNT("t1"."gap_0") FILTER(WHERE
      "t1"."gap_0" > 1800000000) + CASE
      WHEN COUNT("t1"."ts") FILTER(WHERE
        (
          (
            (
              "t1"."type" = 'track'
            )
            AND "t1"."name" IN ('Product Viewed', 'Product Added')
          )
          OR (
            "t1"."type" = 'page'
          )
        )
        AND (
          "t1"."age_us" <= 2592000000000
        )) IS NULL
      THEN COUNT("t1"."ts") FILTER(WHERE
        (
          (
            (
              "t1"."type" = 'track'
            )
            AND "t1"."name" IN ('Product Viewed', 'Product Added')
          )
          OR (
            "t1"."type" = 'page'
          )
        )
        AND (
          "t1"."age_us" <= 2592000000000
        ))
      ELSE LEAST(
        1,
        COUNT("t1"."ts") FILTER(WHERE
          (
            (
              (
                "t1"."type" = 'track'
              )
              AND "t1"."name" IN ('Product Viewed', 'Product Added')
            )
            OR (
              "t1"."type" = 'page'
            )
          )
          AND (
            "t1"."age_us" <= 2592000000000
          ))
      )
    END AS "leaf_0_0",
    COUNT("t1"."gap_1") FILTER(WHERE
      "t1"."gap_1" > 1800000000) + CASE
      WHEN COUNT("t1"."ts") FILTER(WHERE
        (
          (
            (
              "t1"."type" = 'track'
            )
            AND "t1"."name" IN ('Product Viewed', 'Product Added')
          )
          OR (
            "t1"."type" = 'page'
          )
        )
        AND (
          "t1"."age_us" <= 7776000000000
        )) IS NULL
      THEN COUNT("t1"."ts") FILTER(WHERE
        (
          (
            (
              "t1"."type" = 'track'
            )
            AND "t1"."name" IN ('Product Viewed', 'Product Added')
          )
          OR (
            "t1"."type" = 'page'
          )
        )
        AND (
          "t1"."age_us" <= 7776000000000
        ))
      ELSE LEAST(
        1,
        COUNT("t1"."ts") FILTER(WHERE
          (
            (
              (
                "t1"."type" = 'track'
              )
              AND "t1"."name" IN ('Product Viewed', 'Product Added')
            )
            OR (
              "t1"."type" = 'page'
            )
          )
          AND (
            "t1"."age_us" <= 7776000000000
          ))
      )
    END AS "leaf_1_0",
    COUNT("t1"."gap_2") FILTER(WHERE
      "t1"."gap_2" > 1800000000) + CASE
      WHEN COUNT("t1"."ts") FILTER(WHERE
        (
          (
            "t1"."type" = 'track'
          )
          AND "t1"."name" IN ('Product Viewed', 'Product Added')
        )
        OR (
          "t1"."type" = 'page'
        )) IS NULL
      THEN COUNT("t1"."ts") FILTER(WHERE
        (
          (
            "t1"."type" = 'track'
          )
          AND "t1"."name" IN ('Product Viewed', 'Product Added')
        )
        OR (
          "t1"."type" = 'page'
        ))
      ELSE LEAST(
        1,
        COUNT("t1"."ts") FILTER(WHERE
          (
            (
              "t1"."type" = 'track'
            )
            AND "t1"."name" IN ('Product Viewed', 'Product Added')
          )
          OR (
            "t1"."type" = 'page'
          ))
      )
    END AS "leaf_2_0",
    COUNT("t1"."ts") FILTER(WHERE
      (
        (
          (
            "t1"."type" = 'track'
          )
          AND "t1"."name" IN ('Product Viewed', 'Product Added')
        )
        OR (
          "t1"."type" = 'page'
        )
      )
      AND (
        "t1"."age_us" <= 7776000000000
      )) AS "leaf_3_0",
    COUNT("t1"."gap_1") FILTER(WHERE
      "t1"."gap_1" > 1800000000) + CASE
      WHEN COUNT("t1"."ts") FILTER(WHERE
        (
          (
            (
              "t1"."type" = 'track'
            )
            AND "t1"."name" IN ('Product Viewed', 'Product Added')
          )
          OR (
            "t1"."type" = 'page'
          )
        )
        AND (
          "t1"."age_us" <= 7776000000000
        )) IS NULL
      THEN COUNT("t1"."ts") FILTER(WHERE
        (
          (
            (
              "t1"."type" = 'track'
            )
            AND "t1"."name" IN ('Product Viewed', 'Product Added')
          )
          OR (
            "t1"."type" = 'page'
          )
        )
        AND (
          "t1"."age_us" <= 7776000000000
        ))
      ELSE LEAST(
        1,
        COUNT("t1"."ts") FILTER(WHERE
          (
            (
              (
                "t1"."type" = 'track'
              )
              AND "t1"."name" IN ('Product Viewed', 'Product Added')
            )
            OR (
              "t1"."type" = 'page'
            )
          )
          AND (
            "t1"."age_us" <= 7776000000000
          ))
      )
    END AS "leaf_3_1",
    CAST(PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY
      CAST("t1"."gap_2" AS DOUBLE PRECISION)) AS DOUBLE PRECISION) / 86400000000 AS "leaf_4_0",
    CAST(MIN("t1"."age_us") FILTER(WHERE
      (
        (
          "t1"."type" = 'track'
        )
        AND "t1"."name" IN ('Product Viewed', 'Product Added')
      )
      OR (
        "t1"."type" = 'page'
      )) AS DOUBLE PRECISION) / 86400000000 AS "leaf_5_0",
    CAST(MAX("t1"."age_us") FILTER(WHERE
      (
        (
          "t1"."type" = 'track'
        )
        AND "t1"."name" IN ('Product Viewed', 'Product Added')
      )
      OR (
        "t1"."type" = 'page'
      )) AS DOUBLE PRECISION) / 86400000000 AS "leaf_6_0",
    COUNT(DISTINCT "t1"."day") FILTER(WHERE
      (
        (
          (
            "t1"."type" = 'track'
          )
          AND "t1"."name" IN ('Product Viewed', 'Product Added')
        )
        OR (
          "t1"."type" = 'page'
        )
      )
      AND (
        "t1"."age_us" <= 2592000000000
      )) AS "leaf_7_0",
    COUNT(DISTINCT "t1"."day") FILTER(WHERE
      (
        (
          (
            "t1"."type" = 'track'
          )
          AND "t1"."name" IN ('Product Viewed', 'Product Added')
        )
        OR (
          "t1"."type" = 'page'
        )
      )
      AND (
        "t1"."age_us" <= 31536000000000
      )) AS "leaf_8_0",
    COUNT("t1"."ts") FILTER(WHERE
      (
        "t1"."type" = 'track'
      )
      AND "t1"."name" IN ('Product Viewed')
      AND (
        "t1"."age_us" <= 2592000000000
      )) AS "leaf_9_0",
    COUNT("t1"."ts") FILTER(WHERE
      (
        "t1"."type" = 'track'
      )
      AND "t1"."name" IN ('Product Viewed')
      AND (
        "t1"."age_us" <= 7776000000000
      )) AS "leaf_10_0",
    COUNT(DISTINCT "t1"."text_0") FILTER(WHERE
      (
        "t1"."type" = 'track'
      )
      AND "t1"."name" IN ('Product Viewed')
      AND (
        "t1"."age_us" <= 7776000000000
      )) AS "leaf_11_0",
    COUNT("t1"."ts") FILTER(WHERE
      (
        "t1"."type" = 'track'
      )
      AND "t1"."name" IN ('Product Added')
      AND (
        "t1"."age_us" <= 7776000000000
      )) AS "leaf_12_0",
    COUNT("t1"."ts") FILTER(WHERE
      (
        "t1"."type" = 'page'
      ) AND (
        "t1"."age_us" <= 2592000000000
      )) AS "leaf_13_0",
    COUNT("t1"."ts") FILTER(WHERE
      (
        "t1"."type" = 'track'
      )
      AND "t1"."name" IN ('Product Added')
      AND (
        "t1"."age_us" <= 7776000000000
      )) AS "leaf_14_0",
    COUNT("t1"."ts") FILTER(WHERE
      (
        "t1"."type" = 'track'
      )
      AND "t1"."name" IN ('Product Viewed')
      AND (
        "t1"."age_us" <= 7776000000000
      )) AS "leaf_14_1",
    COUNT(DISTINCT "t1"."text_1") FILTER(WHERE
      (
        "t1"."type" = 'track'
      )
      AND "t1"."name" IN ('Order Completed')
      AND (
        "t1"."age_us" <= 7776000000000
      )) AS "leaf_15_0",
    COUNT("t1"."ts") FILTER(WHERE
      (
        "t1"."type" = 'track'
      )
      AND "t1"."name" IN ('Product Viewed')
      AND (
        "t1"."age_us" <= 7776000000000
      )) AS "leaf_15_1",
    COUNT("t1"."ts") FILTER(WHERE
      (
        (
          (
            "t1"."type" = 'track'
          )
          AND "t1"."name" IN ('Product Viewed', 'Product Added')
        )
        OR (
          "t1"."type" = 'page'
        )
      )
      AND (
        "t1"."age_us" <= 2592000000000
      )) AS "leaf_16_0",
    COUNT("t1"."ts") FILTER(WHERE
      (
        (
          (
            "t1"."type" = 'track'
          )
          AND "t1"."name" IN ('Product Viewed', 'Product Added')
        )
        OR (
          "t1"."type" = 'page'
        )
      )
      AND (
        "t1"."age_us" > 2592000000000
      )
      AND (
        "t1"."age_us" <= 5184000000000
      )) AS "leaf_16_1",
    (
      ARRAY_AGG(
        "t1"."text_2" ORDER BY "t1"."often_3" DESC NULLS LAST, "t1"."text_2" DESC NULLS LAST
      ) FILTER(WHERE
        "t1"."text_2" IS NOT NULL
        AND (
          "t1"."type" = 'track'
        )
        AND "t1"."name" IN ('Product Viewed')
        AND (
          "t1"."age_us" <= 7776000000000
        ))
    )[CASE
      WHEN 0 < 0
      THEN CARDINALITY(
        ARRAY_AGG(
          "t1"."text_2" ORDER BY "t1"."often_3" DESC NULLS LAST, "t1"."text_2" DESC NULLS LAST
        ) FILTER(WHERE
          "t1"."text_2" IS NOT NULL
          AND (
            "t1"."type" = 'track'
          )
          AND "t1"."name" IN ('Product Viewed')
          AND (
            "t1"."age_us" <= 7776000000000
          ))
      ) + (
        0 + 1
      )
      ELSE 0 + 1
    END] AS "leaf_17_0",
    (
      ARRAY_AGG("t1"."text_2" ORDER BY "t1"."ts" DESC NULLS LAST, "t1"."text_2" DESC NULLS LAST) FILTER(WHERE
        "t1"."text_2" IS NOT NULL
        AND (
          "t1"."type" = 'track'
        )
        AND "t1"."name" IN ('Product Viewed'))
    )[CASE
      WHEN 0 < 0
      THEN CARDINALITY(
        ARRAY_AGG("t1"."text_2" ORDER BY "t1"."ts" DESC NULLS LAST, "t1"."text_2" DESC NULLS LAST) FILTER(WHERE
          "t1"."text_2" IS NOT NULL
          AND (
            "t1"."type" = 'track'
          )
          AND "t1"."name" IN ('Product Viewed'))
      ) + (
        0 + 1
      )
      ELSE 0 + 1
    END] AS "leaf_18_0",
    (
      ARRAY_AGG(
        "t1"."channel" ORDER BY "t1"."often_4" DESC NULLS LAST, "t1"."channel" DESC NULLS LAST
      ) FILTER(WHERE
        "t1"."channel" IS NOT NULL)
    )[CASE
      WHEN 0 < 0
      THEN CARDINALITY(
        ARRAY_AGG(
          "t1"."channel" ORDER BY "t1"."often_4" DESC NULLS LAST, "t1"."channel" DESC NULLS LAST
        ) FILTER(WHERE
          "t1"."channel" IS NOT NULL)
      ) + (
        0 + 1
      )
      ELSE 0 + 1
    END] AS "leaf_19_0",
    (
      ARRAY_AGG("t1"."channel" ORDER BY "t1"."ts" ASC, "t1"."channel" ASC) FILTER(WHERE
        "t1"."channel" IS NOT NULL)
    )[CASE
      WHEN 0 < 0
      THEN CARDINALITY(
        ARRAY_AGG("t1"."channel" ORDER BY "t1"."ts" ASC, "t1"."channel" ASC) FILTER(WHERE
          "t1"."channel" IS NOT NULL)
      ) + (
        0 + 1
      )
      ELSE 0 + 1
    END] AS "leaf_20_0",
    (
      ARRAY_AGG(
        "t1"."channel" ORDER BY "t1"."ts" DESC NULLS LAST, "t1"."channel" DESC NULLS LAST
      ) FILTER(WHERE
        "t1"."channel" IS NOT NULL)
    )[CASE
      WHEN 0 < 0
      THEN CARDINALITY(
        ARRAY_AGG(
          "t1"."channel" ORDER BY "t1"."ts" DESC NULLS LAST, "t1"."channel" DESC NULLS LAST
        ) FILTER(WHERE
          "t1"."channel" IS NOT NULL)
      ) + (
        0 + 1
      )
      ELSE 0 + 1
    END] AS "leaf_21_0",
    COUNT(DISTINCT "t1"."channel") AS "leaf_22_0",
    COUNT("t1"."ts") FILTER(WHERE
      "t1"."channel" IN ('browser')) AS "leaf_23_0",
    COUNT("t1"."ts") AS "leaf_23_1",
    COUNT("t1"."ts") FILTER(WHERE
      (
        "t1"."type" = 'track'
      ) AND "t1"."name" IN ('Ticket Opened')) AS "leaf_24_0",
    (
      ARRAY_AGG("t1"."text_3" ORDER BY "t1"."ts" DESC NULLS LAST, "t1"."text_3" DESC NULLS LAST) FILTER(WHERE
        "t1"."text_3" IS NOT NULL
        AND (
          "t1"."type" = 'track'
        )
        AND "t1"."name" IN ('Ticket Opened'))
    )[CASE
      WHEN 0 < 0
      THEN CARDINALITY(
        ARRAY_AGG("t1"."text_3" ORDER BY "t1"."ts" DESC NULLS LAST, "t1"."text_3" DESC NULLS LAST) FILTER(WHERE
          "t1"."text_3" IS NOT NULL
          AND (
            "t1"."type" = 'track'
          )
          AND "t1"."name" IN ('Ticket Opened'))
      ) + (
        0 + 1
      )
      ELSE 0 + 1
    END] AS "leaf_25_0",
    CAST(MIN("t1"."age_us") FILTER(WHERE
      (
        "t1"."type" = 'track'
      ) AND "t1"."name" IN ('Ticket Opened')) AS DOUBLE PRECISION) / 86400000000 AS "leaf_26_0",
    COUNT("t1"."ts") FILTER(WHERE
      (
        "t1"."type" = 'track'
      ) AND "t1"."name" IN ('Ticket Opened')) AS "leaf_27_0",
    COUNT(DISTINCT "t1"."text_1") FILTER(WHERE
      (
        "t1"."type" = 'track'
      ) AND "t1"."name" IN ('Order Completed')) AS "leaf_27_1",
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
      "t0"."channel",
      "t0"."text_0",
      "t0"."text_1",
      "t0"."text_2",
      "t0"."text_3",
      CASE
        WHEN (
          (
            (
              "t0"."type" = 'track'
            )
            AND "t0"."name" IN ('Product Viewed', 'Product Added')
          )
          OR (
            "t0"."type" = 'page'
          )
        )
        AND (
          "t0"."age_us" <= 2592000000000
        )
        THEN LAG("t0"."age_us") OVER (
          PARTITION BY "t0"."profile_id", "t0"."as_of", (
            (
              (
                "t0"."type" = 'track'
              )
              AND "t0"."name" IN ('Product Viewed', 'Product Added')
            )
            OR (
              "t0"."type" = 'page'
            )
          )
          AND (
            "t0"."age_us" <= 2592000000000
          )
          ORDER BY "t0"."age_us" DESC NULLS LAST
          ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        ) - "t0"."age_us"
        ELSE CAST(NULL AS BIGINT)
      END AS "gap_0",
      CASE
        WHEN (
          (
            (
              "t0"."type" = 'track'
            )
            AND "t0"."name" IN ('Product Viewed', 'Product Added')
          )
          OR (
            "t0"."type" = 'page'
          )
        )
        AND (
          "t0"."age_us" <= 7776000000000
        )
        THEN LAG("t0"."age_us") OVER (
          PARTITION BY "t0"."profile_id", "t0"."as_of", (
            (
              (
                "t0"."type" = 'track'
              )
              AND "t0"."name" IN ('Product Viewed', 'Product Added')
            )
            OR (
              "t0"."type" = 'page'
            )
          )
          AND (
            "t0"."age_us" <= 7776000000000
          )
          ORDER BY "t0"."age_us" DESC NULLS LAST
          ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        ) - "t0"."age_us"
        ELSE CAST(NULL AS BIGINT)
      END AS "gap_1",
      CASE
        WHEN (
          (
            "t0"."type" = 'track'
          )
          AND "t0"."name" IN ('Product Viewed', 'Product Added')
        )
        OR (
          "t0"."type" = 'page'
        )
        THEN LAG("t0"."age_us") OVER (
          PARTITION BY "t0"."profile_id", "t0"."as_of", (
            (
              "t0"."type" = 'track'
            )
            AND "t0"."name" IN ('Product Viewed', 'Product Added')
          )
          OR (
            "t0"."type" = 'page'
          )
          ORDER BY "t0"."age_us" DESC NULLS LAST
          ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        ) - "t0"."age_us"
        ELSE CAST(NULL AS BIGINT)
      END AS "gap_2",
      COUNT("t0"."text_2") OVER (
        PARTITION BY "t0"."profile_id", "t0"."as_of", (
          "t0"."type" = 'track'
        )
        AND "t0"."name" IN ('Product Viewed')
        AND (
          "t0"."age_us" <= 7776000000000
        ), "t0"."text_2"
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
      ) AS "often_3",
      COUNT("t0"."channel") OVER (
        PARTITION BY "t0"."profile_id", "t0"."as_of", "t0"."ts" IS NOT NULL, "t0"."channel"
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
      ) AS "often_4"
    FROM "scoped" AS "t0"
  ) AS "t1"
  GROUP BY
    1,
    2
) AS "t2"
