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
    event.rest AS rest,
    coalesce(event.texts ->> 'order_id', event.numbers ->> 'order_id') COLLATE "C" AS text_4
  FROM asked
  LEFT JOIN (
    nodes
    JOIN profiles.timeline AS event
      ON event.tenant_id = $1 AND event.node_id = nodes.node_id
      AND event.ts < $3::timestamptz AND event.known_at <= $3::timestamptz
  ) ON nodes.profile_id = asked.profile_id
)
, elements_0 AS (
  SELECT scoped.*,
    CASE WHEN element.value ->> 'quantity' ~ '^-?[0-9]{1,28}([.][0-9]+)?([eE][+-]?[0-9]{1,2})?$' THEN CASE WHEN abs((element.value ->> 'quantity')::numeric) < 1e28 THEN (element.value ->> 'quantity')::numeric(38, 9) END END AS number_0,
    CASE WHEN element.value ->> 'price' ~ '^-?[0-9]{1,28}([.][0-9]+)?([eE][+-]?[0-9]{1,2})?$' THEN CASE WHEN abs((element.value ->> 'price')::numeric) < 1e28 THEN (element.value ->> 'price')::numeric(38, 9) END END AS number_1,
    (CASE WHEN left((element.value ->> 'product_id'), 1) NOT IN ('{', '[') THEN (element.value ->> 'product_id') END) COLLATE "C" AS text_2,
    (CASE WHEN left((element.value ->> 'category'), 1) NOT IN ('{', '[') THEN (element.value ->> 'category') END) COLLATE "C" AS text_3
  FROM scoped
  CROSS JOIN LATERAL jsonb_array_elements(CASE WHEN jsonb_typeof(scoped.rest -> 'products') = 'array' THEN scoped.rest -> 'products' END) AS element (value)
)
SELECT
  "t8"."profile_id",
  "t8"."as_of",
  COALESCE("t8"."leaf_0_0", 0) AS "items_count",
  COALESCE("t8"."leaf_1_0", 0) AS "units_total",
  COALESCE("t8"."leaf_2_0", 0) AS "spend_on_items_total",
  COALESCE("t8"."leaf_3_0", 0) AS "spend_on_items_90d",
  COALESCE("t8"."leaf_4_0", 0) AS "products_count",
  COALESCE("t8"."leaf_5_0", 0) AS "categories_count",
  "t8"."leaf_6_0" AS "favourite_category",
  "t8"."leaf_7_0" AS "favourite_product",
  "t8"."leaf_8_0" AS "first_category",
  "t8"."leaf_9_0" AS "last_category",
  "t8"."leaf_10_0" AS "median_item_price",
  "t8"."leaf_11_0" AS "mean_item_price",
  "t8"."leaf_12_0" AS "highest_item_price",
  CAST(COALESCE("t8"."leaf_13_0", 0) AS DOUBLE PRECISION) / NULLIF(CAST("t8"."leaf_13_1" AS DOUBLE PRECISION), 0) AS "items_per_order",
  CAST(COALESCE("t8"."leaf_14_0", 0) AS DOUBLE PRECISION) / NULLIF(CAST(COALESCE("t8"."leaf_14_1", 0) AS DOUBLE PRECISION), 0) AS "product_variety",
  CAST(COALESCE("t8"."leaf_15_0", 0) AS DOUBLE PRECISION) / NULLIF(CAST(COALESCE("t8"."leaf_15_1", 0) AS DOUBLE PRECISION), 0) AS "multiple_unit_share",
  "t8"."leaf_16_0" AS "days_since_last_multiple_unit",
  "t8"."newest_event"
FROM (
  SELECT
    "t7"."profile_id",
    "t7"."as_of",
    "t7"."leaf_13_1",
    "t7"."newest_event",
    "t7"."leaf_0_0",
    "t7"."leaf_1_0",
    "t7"."leaf_2_0",
    "t7"."leaf_3_0",
    "t7"."leaf_4_0",
    "t7"."leaf_5_0",
    "t7"."leaf_6_0",
    "t7"."leaf_7_0",
    "t7"."leaf_8_0",
    "t7"."leaf_9_0",
    "t7"."leaf_10_0",
    "t7"."leaf_11_0",
    "t7"."leaf_12_0",
    "t7"."leaf_13_0",
    "t7"."leaf_14_0",
    "t7"."leaf_14_1",
    "t7"."leaf_15_0",
    "t7"."leaf_15_1",
    "t7"."leaf_16_0"
  FROM (
    SELECT
      "t4"."profile_id",
      "t4"."as_of",
      "t4"."leaf_13_1",
      "t4"."newest_event",
      "t6"."profile_id" AS "profile_id_right",
      "t6"."as_of" AS "as_of_right",
      "t6"."leaf_0_0",
      "t6"."leaf_1_0",
      "t6"."leaf_2_0",
      "t6"."leaf_3_0",
      "t6"."leaf_4_0",
      "t6"."leaf_5_0",
      "t6"."leaf_6_0",
      "t6"."leaf_7_0",
      "t6"."leaf_8_0",
      "t6"."leaf_9_0",
      "t6"."leaf_10_0",
      "t6"."leaf_11_0",
      "t6"."leaf_12_0",
      "t6"."leaf_13_0",
      "t6"."leaf_14_0",
      "t6"."leaf_14_1",
      "t6"."leaf_15_0",
      "t6"."leaf_15_1",
      "t6"."leaf_16_0"
    FROM (
      SELECT
        "t0"."profile_id",
        "t0"."as_of",
        COUNT(DISTINCT "t0"."text_4") FILTER(WHERE
          (
            "t0"."type" = 'track'
          ) AND "t0"."name" IN ('Order Completed')) AS "leaf_13_1",
        MAX("t0"."ts") AS "newest_event"
      FROM "scoped" AS "t0"
      GROUP BY
        1,
        2
    ) AS "t4"
    LEFT OUTER JOIN (
      SELECT
        "t3"."profile_id",
        "t3"."as_of",
        COUNT("t3"."ts") FILTER(WHERE
          (
            "t3"."type" = 'track'
          ) AND "t3"."name" IN ('Order Completed')) AS "leaf_0_0",
        COALESCE(
          SUM("t3"."number_0") FILTER(WHERE
            (
              "t3"."type" = 'track'
            ) AND "t3"."name" IN ('Order Completed')),
          0
        ) AS "leaf_1_0",
        COALESCE(
          SUM(
            CAST(CASE
              WHEN (
                "t3"."number_1" > CAST('-10000000000000' AS DECIMAL(38, 9))
              )
              AND (
                "t3"."number_1" < CAST('10000000000000' AS DECIMAL(38, 9))
              )
              THEN CAST("t3"."number_1" AS DECIMAL(18, 4))
              ELSE CAST(NULL AS DECIMAL(18, 4))
            END * CASE
              WHEN "t3"."number_0" IS NULL
              THEN CAST(CAST('1' AS DECIMAL(38, 9)) AS DECIMAL(18, 4))
              ELSE CASE
                WHEN (
                  "t3"."number_0" > CAST('-10000000000000' AS DECIMAL(38, 9))
                )
                AND (
                  "t3"."number_0" < CAST('10000000000000' AS DECIMAL(38, 9))
                )
                THEN CAST("t3"."number_0" AS DECIMAL(18, 4))
                ELSE CAST(NULL AS DECIMAL(18, 4))
              END
            END AS DECIMAL(38, 9))
          ) FILTER(WHERE
            (
              "t3"."type" = 'track'
            ) AND "t3"."name" IN ('Order Completed')),
          0
        ) AS "leaf_2_0",
        COALESCE(
          SUM(
            CAST(CASE
              WHEN (
                "t3"."number_1" > CAST('-10000000000000' AS DECIMAL(38, 9))
              )
              AND (
                "t3"."number_1" < CAST('10000000000000' AS DECIMAL(38, 9))
              )
              THEN CAST("t3"."number_1" AS DECIMAL(18, 4))
              ELSE CAST(NULL AS DECIMAL(18, 4))
            END * CASE
              WHEN "t3"."number_0" IS NULL
              THEN CAST(CAST('1' AS DECIMAL(38, 9)) AS DECIMAL(18, 4))
              ELSE CASE
                WHEN (
                  "t3"."number_0" > CAST('-10000000000000' AS DECIMAL(38, 9))
                )
                AND (
                  "t3"."number_0" < CAST('10000000000000' AS DECIMAL(38, 9))
                )
                THEN CAST("t3"."number_0" AS DECIMAL(18, 4))
                ELSE CAST(NULL AS DECIMAL(18, 4))
              END
            END AS DECIMAL(38, 9))
          ) FILTER(WHERE
            (
              "t3"."type" = 'track'
            )
            AND "t3"."name" IN ('Order Completed')
            AND (
              "t3"."age_us" <= 7776000000000
            )),
          0
        ) AS "leaf_3_0",
        COUNT(DISTINCT "t3"."text_2") FILTER(WHERE
          (
            "t3"."type" = 'track'
          ) AND "t3"."name" IN ('Order Completed')) AS "leaf_4_0",
        COUNT(DISTINCT "t3"."text_3") FILTER(WHERE
          (
            "t3"."type" = 'track'
          ) AND "t3"."name" IN ('Order Completed')) AS "leaf_5_0",
        (
          ARRAY_AGG(
            "t3"."text_3" ORDER BY "t3"."often_0" DESC NULLS LAST, "t3"."text_3" DESC NULLS LAST
          ) FILTER(WHERE
            "t3"."text_3" IS NOT NULL
            AND (
              "t3"."type" = 'track'
            )
            AND "t3"."name" IN ('Order Completed'))
        )[CASE
          WHEN 0 < 0
          THEN CARDINALITY(
            ARRAY_AGG(
              "t3"."text_3" ORDER BY "t3"."often_0" DESC NULLS LAST, "t3"."text_3" DESC NULLS LAST
            ) FILTER(WHERE
              "t3"."text_3" IS NOT NULL
              AND (
                "t3"."type" = 'track'
              )
              AND "t3"."name" IN ('Order Completed'))
          ) + (
            0 + 1
          )
          ELSE 0 + 1
        END] AS "leaf_6_0",
        (
          ARRAY_AGG(
            "t3"."text_2" ORDER BY "t3"."often_1" DESC NULLS LAST, "t3"."text_2" DESC NULLS LAST
          ) FILTER(WHERE
            "t3"."text_2" IS NOT NULL
            AND (
              "t3"."type" = 'track'
            )
            AND "t3"."name" IN ('Order Completed'))
        )[CASE
          WHEN 0 < 0
          THEN CARDINALITY(
            ARRAY_AGG(
              "t3"."text_2" ORDER BY "t3"."often_1" DESC NULLS LAST, "t3"."text_2" DESC NULLS LAST
            ) FILTER(WHERE
              "t3"."text_2" IS NOT NULL
              AND (
                "t3"."type" = 'track'
              )
              AND "t3"."name" IN ('Order Completed'))
          ) + (
            0 + 1
          )
          ELSE 0 + 1
        END] AS "leaf_7_0",
        (
          ARRAY_AGG("t3"."text_3" ORDER BY "t3"."ts" ASC, "t3"."text_3" ASC) FILTER(WHERE
            "t3"."text_3" IS NOT NULL
            AND (
              "t3"."type" = 'track'
            )
            AND "t3"."name" IN ('Order Completed'))
        )[CASE
          WHEN 0 < 0
          THEN CARDINALITY(
            ARRAY_AGG("t3"."text_3" ORDER BY "t3"."ts" ASC, "t3"."text_3" ASC) FILTER(WHERE
              "t3"."text_3" IS NOT NULL
              AND (
                "t3"."type" = 'track'
              )
              AND "t3"."name" IN ('Order Completed'))
          ) + (
            0 + 1
          )
          ELSE 0 + 1
        END] AS "leaf_8_0",
        (
          ARRAY_AGG("t3"."text_3" ORDER BY "t3"."ts" DESC NULLS LAST, "t3"."text_3" DESC NULLS LAST) FILTER(WHERE
            "t3"."text_3" IS NOT NULL
            AND (
              "t3"."type" = 'track'
            )
            AND "t3"."name" IN ('Order Completed'))
        )[CASE
          WHEN 0 < 0
          THEN CARDINALITY(
            ARRAY_AGG("t3"."text_3" ORDER BY "t3"."ts" DESC NULLS LAST, "t3"."text_3" DESC NULLS LAST) FILTER(WHERE
              "t3"."text_3" IS NOT NULL
              AND (
                "t3"."type" = 'track'
              )
              AND "t3"."name" IN ('Order Completed'))
          ) + (
            0 + 1
          )
          ELSE 0 + 1
        END] AS "leaf_9_0",
        PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY
          CAST("t3"."number_1" AS DOUBLE PRECISION)) FILTER(WHERE
          (
            "t3"."type" = 'track'
          ) AND "t3"."name" IN ('Order Completed')) AS "leaf_10_0",
        CAST(SUM("t3"."number_1") FILTER(WHERE
          (
            "t3"."type" = 'track'
          ) AND "t3"."name" IN ('Order Completed')) AS DOUBLE PRECISION) / NULLIF(
          COUNT("t3"."number_1") FILTER(WHERE
            (
              "t3"."type" = 'track'
            ) AND "t3"."name" IN ('Order Completed')),
          0
        ) AS "leaf_11_0",
        MAX("t3"."number_1") FILTER(WHERE
          (
            "t3"."type" = 'track'
          ) AND "t3"."name" IN ('Order Completed')) AS "leaf_12_0",
        COUNT("t3"."ts") FILTER(WHERE
          (
            "t3"."type" = 'track'
          ) AND "t3"."name" IN ('Order Completed')) AS "leaf_13_0",
        COUNT(DISTINCT "t3"."text_2") FILTER(WHERE
          (
            "t3"."type" = 'track'
          ) AND "t3"."name" IN ('Order Completed')) AS "leaf_14_0",
        COUNT("t3"."ts") FILTER(WHERE
          (
            "t3"."type" = 'track'
          ) AND "t3"."name" IN ('Order Completed')) AS "leaf_14_1",
        COUNT("t3"."ts") FILTER(WHERE
          (
            "t3"."type" = 'track'
          )
          AND "t3"."name" IN ('Order Completed')
          AND (
            "t3"."number_0" >= CAST('2' AS DECIMAL(38, 9))
          )) AS "leaf_15_0",
        COUNT("t3"."ts") FILTER(WHERE
          (
            "t3"."type" = 'track'
          ) AND "t3"."name" IN ('Order Completed')) AS "leaf_15_1",
        CAST(MIN("t3"."age_us") FILTER(WHERE
          (
            "t3"."type" = 'track'
          )
          AND "t3"."name" IN ('Order Completed')
          AND (
            "t3"."number_0" >= CAST('2' AS DECIMAL(38, 9))
          )) AS DOUBLE PRECISION) / 86400000000 AS "leaf_16_0"
      FROM (
        SELECT
          "t1"."profile_id",
          "t1"."as_of",
          "t1"."ts",
          "t1"."age_us",
          "t1"."day",
          "t1"."type",
          "t1"."name",
          "t1"."number_0",
          "t1"."number_1",
          "t1"."text_2",
          "t1"."text_3",
          "t1"."text_4",
          COUNT("t1"."text_3") OVER (
            PARTITION BY "t1"."profile_id", "t1"."as_of", (
              "t1"."type" = 'track'
            ) AND "t1"."name" IN ('Order Completed'), "t1"."text_3"
            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
          ) AS "often_0",
          COUNT("t1"."text_2") OVER (
            PARTITION BY "t1"."profile_id", "t1"."as_of", (
              "t1"."type" = 'track'
            ) AND "t1"."name" IN ('Order Completed'), "t1"."text_2"
            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
          ) AS "often_1"
        FROM "elements_0" AS "t1"
      ) AS "t3"
      GROUP BY
        1,
        2
    ) AS "t6"
      ON "t4"."profile_id" = "t6"."profile_id" AND "t4"."as_of" = "t6"."as_of"
  ) AS "t7"
) AS "t8"
