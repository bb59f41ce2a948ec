//! The schemas, and the migrations that make their tables.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use sqlx::AssertSqlSafe;
use sqlx::migrate::{Migrate as _, Migration, Migrator};
use sqlx::postgres::PgConnection;

use super::qualified;
use crate::manifest::SchemaPart;

/// A schema with its migrators, in the order in which the service runs them.
pub(super) struct Schema {
    pub(super) name: &'static str,
    pub(super) migrators: Vec<Migrator>,
}

/// Schemas of all services that store anything.
pub(super) fn schemas() -> [Schema; 4] {
    let (outbox, lease) = (slipway_outbox::migrator, slipway_lease::migrator);
    [
        Schema {
            name: "registry",
            migrators: vec![
                sqlx::migrate!("../../migrations/registry"),
                outbox(),
                slipway_audit::migrator(),
                lease(),
            ],
        },
        Schema {
            name: "launcher",
            migrators: vec![sqlx::migrate!("../../migrations/launcher"), outbox(), lease()],
        },
        Schema {
            name: "rollout_controller",
            migrators: vec![sqlx::migrate!("../../migrations/rollout_controller"), outbox(), lease()],
        },
        Schema {
            name: "drift_monitor",
            migrators: vec![sqlx::migrate!("../../migrations/drift_monitor"), outbox(), lease()],
        },
    ]
}

impl Schema {
    /// Tables that list applied migrations.
    pub(super) fn migration_tables(&self) -> Vec<String> {
        self.migrators.iter().map(|migrator| migrator.table_name.to_string()).collect()
    }

    /// The migrators with the migrations that a backup lists.
    ///
    /// # Errors
    /// The backup has a migration that this release does not know.
    fn as_of(&self, part: &SchemaPart) -> anyhow::Result<Vec<Migrator>> {
        let none = BTreeMap::new();
        for table in part.migrations.keys() {
            ensure!(
                self.migrators.iter().any(|migrator| migrator.table_name == table.as_str()),
                "schema {} of the backup has migrations of `{table}`, which this release does not know: use \
                 the release that made the backup, or a newer one",
                self.name
            );
        }
        let filtered = self.migrators.iter().map(|migrator| {
            let applied = part.migrations.get(&*migrator.table_name).unwrap_or(&none);
            let kept = kept(self.name, migrator, applied)?;
            Ok(Migrator {
                migrations: Cow::Owned(kept),
                table_name: migrator.table_name.clone(),
                ..Migrator::DEFAULT
            })
        });
        filtered.collect()
    }
}

/// The migrations of `applied`, which has checksums by version.
fn kept(
    schema: &str,
    migrator: &Migrator,
    applied: &BTreeMap<i64, String>,
) -> anyhow::Result<Vec<Migration>> {
    let newest = migrator.iter().map(|migration| migration.version).max().unwrap_or_default();
    for (version, checksum) in applied {
        let known = migrator.iter().find(|migration| migration.version == *version).with_context(|| {
            format!(
                "schema {schema} of the backup has migration {version} of `{}`, and this release knows \
                 migrations up to {newest}: use the release that made the backup, or a newer one",
                migrator.table_name
            )
        })?;
        ensure!(
            hex::encode(&*known.checksum) == *checksum,
            "schema {schema} of the backup has another migration {version} of `{}` than this release: use \
             the release that made the backup",
            migrator.table_name
        );
    }
    Ok(migrator.iter().filter(|migration| applied.contains_key(&migration.version)).cloned().collect())
}

/// Names of all schemas.
pub fn schema_names() -> Vec<String> {
    schemas().iter().map(|schema| schema.name.to_owned()).collect()
}

/// Those of the schemas `present` that have migrations which this release does not know. A schema that the
/// user may not read counts as known.
pub async fn newer_schemas(connection: &mut PgConnection, present: &[String]) -> Vec<String> {
    let mut newer = Vec::new();
    for schema in schemas().iter().filter(|schema| present.iter().any(|name| name == schema.name)) {
        for migrator in &schema.migrators {
            let table = qualified(schema.name, &migrator.table_name);
            let sql = format!("SELECT max(version) FROM {table}");
            let last: Option<Option<i64>> =
                sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *connection).await.ok();
            if last.flatten().is_some_and(|version| !migrator.version_exists(version)) {
                newer.push(schema.name.to_owned());
                break;
            }
        }
    }
    newer
}

/// Checks that this release can restore the schemas of a backup.
///
/// # Errors
/// A schema or a migration is unknown: a newer release made the backup.
pub(crate) fn check_known(parts: &[SchemaPart]) -> anyhow::Result<()> {
    let schemas = schemas();
    for part in parts {
        find(&schemas, part)?.as_of(part)?;
    }
    Ok(())
}

pub(super) fn find<'known>(schemas: &'known [Schema], part: &SchemaPart) -> anyhow::Result<&'known Schema> {
    schemas.iter().find(|schema| schema.name == part.name).with_context(|| {
        format!(
            "the backup has a schema `{}`, which this release does not know: use the release that made the \
             backup, or a newer one",
            part.name
        )
    })
}

/// Makes the tables of a schema as they were when the backup was made. The search path leads to the schema.
pub(super) async fn make(
    connection: &mut PgConnection,
    schema: &Schema,
    part: &SchemaPart,
) -> anyhow::Result<()> {
    for migrator in schema.as_of(part)? {
        let table = &*migrator.table_name;
        connection.ensure_migrations_table(table).await?;
        for migration in migrator.iter() {
            connection
                .apply(table, migration)
                .await
                .with_context(|| format!("migration {} of schema {}", migration.version, schema.name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(schema: &Schema) -> SchemaPart {
        let applied = |migrator: &Migrator| {
            migrator.iter().map(|migration| (migration.version, hex::encode(&*migration.checksum))).collect()
        };
        let tables =
            schema.migrators.iter().map(|migrator| (migrator.table_name.to_string(), applied(migrator)));
        SchemaPart {
            name: schema.name.to_owned(),
            migrations: tables.collect(),
            tables: Vec::new(),
            sequences: BTreeMap::new(),
        }
    }

    #[test]
    fn an_older_backup_gets_its_own_migrations_and_a_newer_one_is_refused() {
        let [registry, ..] = schemas();
        let mut older = part(&registry);
        older.migrations.get_mut("_sqlx_migrations").unwrap().retain(|version, _| *version <= 10);
        let kept: Vec<i64> =
            registry.as_of(&older).unwrap()[0].iter().map(|migration| migration.version).collect();
        assert_eq!(kept, [1, 2, 3, 4, 5, 6, 7, 10]);

        let error = |change: fn(&mut SchemaPart)| {
            let mut part = part(&schemas()[0]);
            change(&mut part);
            check_known(&[part]).unwrap_err().to_string()
        };
        let newer = error(|part| {
            part.migrations.get_mut("_sqlx_migrations").unwrap().insert(900, "00".to_owned());
        });
        assert!(newer.contains("has migration 900") && newer.contains("a newer one"), "{newer}");
        let changed = error(|part| {
            part.migrations.get_mut("_sqlx_migrations").unwrap().insert(1, "00".to_owned());
        });
        assert!(changed.contains("another migration 1"), "{changed}");
        assert!(error(|part| part.name = "features".to_owned()).contains("a schema `features`"));
        let table = error(|part| {
            part.migrations.insert("_new_migrations".to_owned(), BTreeMap::new());
        });
        assert!(table.contains("`_new_migrations`"), "{table}");
    }
}
