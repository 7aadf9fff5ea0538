//! The tables are ready to be distributed by farm, and every statement fits them.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _, SqlSafeStr as _};

use crate::support::cloud::Cloud;
use crate::support::records::{WindowExt as _, window, windows};

#[tokio::test]
async fn every_key_of_a_farms_table_begins_with_the_farm() {
    let cloud = Cloud::start().await;
    cloud.store(&windows(1, [window("n1", "2015-06-01T00:00:00Z").with("rain", &[1.0], &[])])).await;
    // Accounts, sessions and models are shared by the farms; everything else is a farm's.
    let shared =
        ["app_user", "session", "tuf_metadata", "blob", "model_version", "node_model_version", "_sqlx_migrations"];
    let keys = "SELECT c.relname::text AS relation, i.relname::text AS key, a.attname::text AS first
        FROM pg_index x
        JOIN pg_class c ON c.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = x.indkey[0]
        WHERE c.relnamespace = 'public'::regnamespace AND x.indisunique";
    let mut seen = Vec::new();
    for row in sqlx::query(keys).fetch_all(&cloud.pool).await.unwrap() {
        let (relation, key, first): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        if !shared.contains(&relation.as_str()) {
            assert_eq!(first, "farm_id", "{key} of {relation}");
            seen.push(relation);
        }
    }
    let tables =
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')";
    for table in sqlx::query_scalar::<_, String>(tables).fetch_all(&cloud.pool).await.unwrap() {
        assert!(seen.contains(&table) || shared.contains(&table.as_str()), "{table} has no key");
    }

    // Foreign keys, except those to the shared tables.
    let foreign = "SELECT k.conname::text, a.attname::text, b.attname::text, k.confrelid::regclass::text
        FROM pg_constraint k
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
        JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = k.confkey[1]
        WHERE k.contype = 'f' AND k.connamespace = 'public'::regnamespace";
    let mut foreign = sqlx::query(foreign).fetch_all(&cloud.pool).await.unwrap();
    foreign.retain(|row| !shared.contains(&row.get::<&str, _>(3)));
    assert!(foreign.len() >= 10);
    for row in foreign {
        let (key, from, to): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        assert_eq!((from.as_str(), to.as_str()), ("farm_id", "farm_id"), "{key}");
    }
    let triggers = "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal";
    assert_eq!(cloud.count(triggers).await, 0, "distributed tables take no triggers");
}

#[tokio::test]
async fn every_statement_fits_the_tables() {
    let cloud = Cloud::start().await;
    let mut connection = PgConnection::connect(&cloud.database_url).await.unwrap();
    let mut number = 0;
    for (name, statement) in cloud::database::all_statements() {
        let prepared = connection.prepare(AssertSqlSafe(statement).into_sql_str()).await;
        prepared.unwrap_or_else(|error| panic!("{name}: {error}"));
        number += 1;
    }
    assert!(number > 30, "{number} statements");
}

#[tokio::test]
async fn migrating_again_changes_nothing() {
    let cloud = Cloud::start().await;
    let migrations = "SELECT count(*) FROM _sqlx_migrations";
    let before = cloud.count(migrations).await;
    cloud::database::migrate(&cloud.pool).await.unwrap();
    assert_eq!(cloud.count(migrations).await, before);
}

#[tokio::test]
async fn partitions_are_made_by_month_and_once() {
    let cloud = Cloud::start().await;
    let at = |start: &str| window("n1", start).with("rain", &[1.0], &[]);
    cloud
        .store(&windows(1, [at("2015-05-31T23:45:00Z"), at("2015-06-01T00:00:00Z"), at("2015-02-28T12:00:00Z")]))
        .await;
    cloud.store(&windows(4, [at("2015-06-02T00:00:00Z")])).await;
    let names = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'aggregate'::regclass ORDER BY 1";
    let names: Vec<String> = sqlx::query_scalar(names).fetch_all(&cloud.pool).await.unwrap();
    assert_eq!(names, ["aggregate_y2015m02", "aggregate_y2015m05", "aggregate_y2015m06"]);
    assert_eq!(cloud.count("SELECT count(*) FROM aggregate_y2015m06").await, 2);
}
