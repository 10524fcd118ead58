//! Queries for predictions, their revisions and feedback. The cost of a query does not grow with the table, and several gateways may
//! run each query at once.

use std::collections::BTreeSet;

use sea_orm::{
    ColumnTrait as _, DatabaseConnection, DbErr, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, Select, SqlErr,
};

use super::{feedback, prediction, revision};

/// A prediction with its revision and feedback.
pub(crate) struct PredictionRecord {
    pub(crate) prediction: prediction::Model,
    pub(crate) revision: revision::Model,
    pub(crate) feedback: Option<feedback::Model>,
}

/// Which predictions to list.
pub(crate) enum PredictionFilter<'a> {
    Model { namespace: &'a str, model: &'a str },
    NamespacePolicy(&'a BTreeSet<String>),
    All,
}

/// A page of predictions.
pub(crate) struct Page {
    pub(crate) answers: Vec<PredictionRecord>,
    /// The last row that was read, if there may be more. It may be a row that is not shown because its revision is missing.
    pub(crate) next: Option<Vec<u8>>,
}

/// Writes predictions and revisions. Existing rows stay: they are from a batch that was written, but whose confirmation was lost.
pub(super) async fn write(
    database: &DatabaseConnection,
    predictions: &[prediction::Model],
    revisions: &[revision::Model],
) -> Result<(), DbErr> {
    let new = revisions.iter().map(|revision| revision.clone().into_active_model());
    revision::Entity::insert_many(new).on_conflict_do_nothing().exec_without_returning(database).await?;
    let new = predictions.iter().map(|prediction| prediction.clone().into_active_model());
    prediction::Entity::insert_many(new).on_conflict_do_nothing().exec_without_returning(database).await?;
    Ok(())
}

/// The prediction `id`.
pub(super) async fn find(
    database: &DatabaseConnection,
    id: &[u8],
) -> Result<Option<PredictionRecord>, DbErr> {
    let Some(prediction) = prediction::Entity::find_by_id(id).one(database).await? else { return Ok(None) };
    let Some(revision) = revision_of(database, &prediction).await? else { return Ok(None) };
    let feedback = feedback::Entity::find_by_id(id).one(database).await?;
    Ok(Some(PredictionRecord { prediction, revision, feedback }))
}

/// At most `limit` predictions before `after`, latest first.
pub(super) async fn list(
    database: &DatabaseConnection,
    filter: &PredictionFilter<'_>,
    after: Option<&[u8]>,
    limit: u64,
) -> Result<Page, DbErr> {
    let latest = latest(after, limit);
    let query = match filter {
        PredictionFilter::All => latest,
        PredictionFilter::Model { namespace, model } => {
            in_namespace(latest, namespace).filter(prediction::Column::Model.eq(*model))
        }
        PredictionFilter::NamespacePolicy(namespaces) => {
            let mut ids = Vec::new();
            for namespace in *namespaces {
                ids.extend(ids_in_namespace(latest.clone(), namespace).into_tuple().all(database).await?);
            }
            ids.sort_unstable_by(|one: &Vec<u8>, other| other.cmp(one));
            ids.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            latest.filter(prediction::Column::Id.is_in(ids))
        }
    };
    let found = query.all(database).await?;
    let next = found.last().filter(|_| found.len() as u64 == limit).map(|last| last.id.clone());
    let ids = found.iter().map(|prediction| prediction.id.clone());
    let feedback = feedback::Entity::find().filter(feedback::Column::Id.is_in(ids)).all(database).await?;
    let mut revisions: Vec<revision::Model> = Vec::new();
    let mut all = Vec::with_capacity(found.len());
    for prediction in found {
        let known = revisions.iter().find(|known| is_answered_by(&prediction, known)).cloned();
        let revision = match known {
            Some(known) => known,
            None => match revision_of(database, &prediction).await? {
                Some(read) => {
                    revisions.push(read.clone());
                    read
                }
                None => continue,
            },
        };
        let feedback = feedback.iter().find(|feedback| feedback.id == prediction.id).cloned();
        all.push(PredictionRecord { prediction, revision, feedback });
    }
    Ok(Page { answers: all, next })
}

fn latest(after: Option<&[u8]>, limit: u64) -> Select<prediction::Entity> {
    let latest = prediction::Entity::find().order_by_desc(prediction::Column::Id).limit(limit);
    match after {
        None => latest,
        Some(after) => latest.filter(prediction::Column::Id.lt(after)),
    }
}

fn in_namespace(query: Select<prediction::Entity>, namespace: &str) -> Select<prediction::Entity> {
    query.filter(prediction::Column::Namespace.eq(namespace))
}

/// Queries one namespace at a time: no index has the predictions of several in the order of ids, and sorting or scanning them takes
/// time in proportion to the table.
fn ids_in_namespace(query: Select<prediction::Entity>, namespace: &str) -> Select<prediction::Entity> {
    in_namespace(query, namespace).select_only().column(prediction::Column::Id)
}

/// The feedback on prediction `id`.
pub(super) async fn feedback_of(
    database: &DatabaseConnection,
    id: &[u8],
) -> Result<Option<feedback::Model>, DbErr> {
    feedback::Entity::find_by_id(id).one(database).await
}

/// Stores feedback. Returns false if the prediction has feedback already.
pub(super) async fn insert_feedback(
    database: &DatabaseConnection,
    feedback: feedback::Model,
) -> Result<bool, DbErr> {
    match feedback::Entity::insert(feedback.into_active_model()).exec_without_returning(database).await {
        Ok(_) => Ok(true),
        Err(why) if matches!(why.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => Ok(false),
        Err(why) => Err(why),
    }
}

/// Deletes at most `limit` predictions before the id `before`, oldest first, with their feedback. Returns how many. Several
/// gateways may delete at once.
pub(super) async fn delete_before(
    database: &DatabaseConnection,
    before: &[u8],
    limit: u64,
) -> Result<u64, DbErr> {
    let next: Option<Vec<u8>> = prediction::Entity::find()
        .select_only()
        .column(prediction::Column::Id)
        .filter(prediction::Column::Id.lt(before))
        .order_by_asc(prediction::Column::Id)
        .offset(limit)
        .limit(1)
        .into_tuple()
        .one(database)
        .await?;
    let end = next.as_deref().unwrap_or(before);
    feedback::Entity::delete_many().filter(feedback::Column::Id.lt(end)).exec(database).await?;
    let deleted =
        prediction::Entity::delete_many().filter(prediction::Column::Id.lt(end)).exec(database).await?;
    Ok(deleted.rows_affected)
}

async fn revision_of(
    database: &DatabaseConnection,
    prediction: &prediction::Model,
) -> Result<Option<revision::Model>, DbErr> {
    let prediction::Model { namespace, model, revision, .. } = prediction;
    let key = (namespace.clone(), model.clone(), revision.clone());
    revision::Entity::find_by_id(key).one(database).await
}

fn is_answered_by(prediction: &prediction::Model, known: &revision::Model) -> bool {
    prediction.revision == known.revision
        && prediction.model == known.model
        && prediction.namespace == known.namespace
}

#[cfg(test)]
mod tests {
    use super::*;
    use sea_orm::{ConnectionTrait as _, Database, DbBackend, FromQueryResult, QueryTrait as _, Statement};
    use sea_orm_migration::MigratorTrait as _;

    #[derive(FromQueryResult)]
    struct Step {
        detail: String,
    }

    /// The query plan of `SQLite` for `query`.
    async fn plan(database: &DatabaseConnection, query: &Select<prediction::Entity>) -> String {
        let statement = query.build(DbBackend::Sqlite);
        let explain = format!("EXPLAIN QUERY PLAN {}", statement.sql);
        let explain = Statement::from_sql_and_values(DbBackend::Sqlite, explain, statement.values.unwrap().0);
        let steps = Step::find_by_statement(explain).all(database).await.unwrap();
        steps.into_iter().map(|step| step.detail).collect::<Vec<_>>().join("; ")
    }

    #[tokio::test]
    async fn the_latest_predictions_of_a_namespace_or_model_are_read_in_order_from_an_index() {
        let database = Box::pin(Database::connect("sqlite::memory:")).await.unwrap();
        super::super::migration::Migrator::up(&database, None).await.unwrap();
        database.execute_unprepared("ANALYZE").await.unwrap();
        for after in [None, Some(&[7; 16][..])] {
            let of_namespace = plan(&database, &ids_in_namespace(latest(after, 50), "shop")).await;
            assert!(
                of_namespace.contains("COVERING INDEX predictions_by_namespace (namespace=?"),
                "{of_namespace}"
            );
            let of_model =
                in_namespace(latest(after, 50), "shop").filter(prediction::Column::Model.eq("iris"));
            let of_model = plan(&database, &of_model).await;
            assert!(of_model.contains("INDEX predictions_by_model (namespace=? AND model=?"), "{of_model}");
            for plan in [of_namespace, of_model] {
                assert!(!plan.contains("SCAN") && !plan.contains("B-TREE"), "{plan}");
            }
        }
    }
}
