//! The database: users, predictions and feedback. SQL is used only here and in the submodules. Only a new database is filled with
//! example users. Every query has a time limit.

mod seed;
mod address;
#[expect(unreachable_pub, reason = "sea-orm's derive makes a public entity, and wants its row to be so too")]
mod user;
#[expect(unreachable_pub, reason = "sea-orm's derive makes a public entity, and wants its row to be so too")]
#[expect(
    clippy::struct_field_names,
    reason = "sea-orm wants a row to be called Model, and this one names a model"
)]
mod prediction;
#[expect(unreachable_pub, reason = "sea-orm's derive makes a public entity, and wants its row to be so too")]
#[expect(
    clippy::struct_field_names,
    reason = "sea-orm wants a row to be called Model, and this one names a model"
)]
mod revision;
#[expect(unreachable_pub, reason = "sea-orm's derive makes a public entity, and wants its row to be so too")]
mod feedback;
mod predictions;
mod migration;

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{Database, DatabaseConnection, DbErr, EntityTrait as _, QueryOrder as _, RuntimeErr, SqlErr};
use sea_orm_migration::MigratorTrait as _;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use address::{Address, AddressError};

pub(crate) use predictions::{Page, PredictionFilter, PredictionRecord};

/// A user.
pub(crate) type User = user::Model;
/// A recorded prediction.
pub(crate) type PredictionRow = prediction::Model;
/// A revision with recorded predictions.
pub(crate) type RevisionRow = revision::Model;
/// Feedback on a prediction.
pub(crate) type FeedbackRow = feedback::Model;

/// The time limit of migrations: indexing a large table takes minutes.
const MIGRATION_TIMEOUT: Duration = Duration::from_mins(5);
/// The time limit for deleting a batch of predictions.
const DELETE_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The kind of database is not supported.
    #[error(
        "a database at {scheme}: is not supported; CANOPY_DATABASE_URL must be sqlite://PATH, mysql://… or postgres://…"
    )]
    Kind {
        /// The scheme of the URL; the rest may contain a password.
        scheme: String,
    },
    /// The URL is invalid.
    #[error(
        "CANOPY_DATABASE_URL is invalid: {why}; it must be {scheme}://USER:PASSWORD@HOST:PORT/NAME, with characters that \
         are special in a URL as %XX"
    )]
    Unreadable {
        /// The scheme of the URL; the rest may contain a password.
        scheme: String,
        /// The parser's error.
        why: String,
    },
    /// The database cannot be opened.
    #[error(
        "failed to open database {url}: {why}; check that its folder exists, that this process may write to it, and that the \
         file is a database, or change CANOPY_DATABASE_URL"
    )]
    Open {
        /// The URL without password.
        url: String,
        /// The driver's error.
        why: DbErr,
    },
    /// The tables cannot be migrated.
    #[error(
        "failed to migrate the tables of database {url}: {why}; this process must be allowed to write to it, and \
         a database of a later version of Canopy needs that version; otherwise change CANOPY_DATABASE_URL"
    )]
    Tables {
        /// The URL without password.
        url: String,
        /// The driver's error.
        why: DbErr,
    },
}

impl From<AddressError> for StoreError {
    fn from(error: AddressError) -> Self {
        match error {
            AddressError::Kind(scheme) => Self::Kind { scheme },
            AddressError::Unreadable { scheme, why } => Self::Unreadable { scheme, why },
        }
    }
}

/// Why a query failed.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum StoreQueryError {
    /// No response within the time limit.
    #[error("the database did not respond within {0:?}")]
    Timeout(Duration),
    /// The server is unreachable, or all connections are in use.
    #[error("no connection to the database is available")]
    NoConnection,
    /// The driver's error.
    #[error("{0}")]
    Failed(DbErr),
}

impl StoreQueryError {
    /// Whether the database rejected the statement, so that a retry is likely to fail as well.
    pub(crate) fn is_refusal(&self) -> bool {
        let Self::Failed(DbErr::Exec(RuntimeErr::SqlxError(why)) | DbErr::Query(RuntimeErr::SqlxError(why))) =
            self
        else {
            return false;
        };
        matches!(**why, sea_orm::SqlxError::Database(_) | sea_orm::SqlxError::Encode(_))
    }

    /// Whether the statement may have been applied, because its result is unknown.
    pub(crate) fn may_have_been_applied(&self) -> bool {
        match self {
            Self::Timeout(_) => true,
            Self::NoConnection => false,
            Self::Failed(_) => !self.is_refusal(),
        }
    }
}

/// Where data is stored.
#[derive(Clone)]
pub(crate) enum Store {
    /// No database: a fixed list of users.
    Seed,
    /// A database.
    Database(SqlStore),
}

/// A SQL database.
#[derive(Clone)]
pub(crate) struct SqlStore {
    connection: DatabaseConnection,
    /// Set when the tables are migrated.
    prepared: Arc<OnceCell<()>>,
    /// The time limit of the queries that a request waits for.
    query_timeout: Duration,
}

impl Store {
    /// Opens the database at `url`, and creates and fills what is missing. A server that is unavailable is no error: its tables are
    /// migrated later.
    pub(crate) async fn open(url: Option<&str>, query_timeout: Duration) -> Result<Self, StoreError> {
        let Some(url) = url.map(str::trim).filter(|url| !url.is_empty()) else {
            return Ok(Self::Seed);
        };
        let address = Address::read(url)?;
        let connection = Box::pin(Database::connect(address.options(query_timeout)))
            .await
            .map_err(|why| StoreError::Open { url: address.to_string(), why })?;
        let store = SqlStore { connection, prepared: Arc::default(), query_timeout };
        if !address.is_server() {
            store.migrate().await.map_err(|why| {
                let url = address.to_string();
                // SQLite opens any file, and reads it with the first statement only.
                if why.to_string().contains("not a database") {
                    StoreError::Open { url, why }
                } else {
                    StoreError::Tables { url, why }
                }
            })?;
        }
        Ok(Self::Database(store))
    }

    /// All users, ordered by id.
    pub(crate) async fn users(&self) -> Result<Vec<User>, StoreQueryError> {
        match self {
            Self::Seed => Ok(seed()),
            Self::Database(store) => {
                let all = user::Entity::find().order_by_asc(user::Column::Id).all(&store.connection);
                store.query(store.query_timeout, all).await
            }
        }
    }

    /// The user with `id`, if it exists.
    pub(crate) async fn user(&self, id: i64) -> Result<Option<User>, StoreQueryError> {
        match self {
            Self::Seed => Ok(seed().into_iter().find(|user| user.id == id)),
            Self::Database(store) => {
                store.query(store.query_timeout, user::Entity::find_by_id(id).one(&store.connection)).await
            }
        }
    }
}

impl SqlStore {
    async fn migrate(&self) -> Result<(), DbErr> {
        if self.prepared.initialized() {
            return Ok(());
        }
        // Boxed: it is large and used once.
        let migrating = self.prepared.get_or_try_init(async || {
            // Of several gateways that migrate at once, one wins each step, and the others continue after it.
            for _ in migration::Migrator::migrations() {
                match migration::Migrator::up(&self.connection, None).await {
                    Err(why) if matches!(why.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => {}
                    made => return made,
                }
            }
            migration::Migrator::up(&self.connection, None).await
        });
        Box::pin(migrating).await.copied()
    }

    /// Migrates the tables, unless that is done.
    pub(crate) async fn prepare(&self) -> Result<(), StoreQueryError> {
        with_timeout(MIGRATION_TIMEOUT, self.migrate()).await
    }

    /// Runs `query` after the migration, within `limit`.
    async fn query<T>(
        &self,
        limit: Duration,
        query: impl Future<Output = Result<T, DbErr>>,
    ) -> Result<T, StoreQueryError> {
        with_timeout(limit, async {
            self.migrate().await?;
            query.await
        })
        .await
    }

    /// Writes predictions and their revisions. Repeating a write has no effect.
    pub(crate) async fn write(
        &self,
        predictions: &[PredictionRow],
        revisions: &[RevisionRow],
        limit: Duration,
    ) -> Result<(), StoreQueryError> {
        // Boxed: it is large, and one serves many predictions.
        self.query(limit, Box::pin(predictions::write(&self.connection, predictions, revisions))).await
    }

    /// The prediction `id`, if it is recorded.
    pub(crate) async fn find(&self, id: &[u8]) -> Result<Option<PredictionRecord>, StoreQueryError> {
        self.query(self.query_timeout, predictions::find(&self.connection, id)).await
    }

    /// At most `limit` predictions before `after`, latest first.
    pub(crate) async fn list(
        &self,
        filter: &PredictionFilter<'_>,
        after: Option<&[u8]>,
        limit: u64,
    ) -> Result<Page, StoreQueryError> {
        self.query(self.query_timeout, predictions::list(&self.connection, filter, after, limit)).await
    }

    /// Stores feedback. Returns false if the prediction has feedback already.
    pub(crate) async fn insert_feedback(&self, feedback: FeedbackRow) -> Result<bool, StoreQueryError> {
        self.query(self.query_timeout, Box::pin(predictions::insert_feedback(&self.connection, feedback)))
            .await
    }

    /// The feedback on prediction `id`.
    pub(crate) async fn feedback_of(&self, id: &[u8]) -> Result<Option<FeedbackRow>, StoreQueryError> {
        self.query(self.query_timeout, predictions::feedback_of(&self.connection, id)).await
    }

    /// Deletes at most `limit` predictions before the id `before`. Returns how many.
    pub(crate) async fn delete_before(&self, before: &[u8], limit: u64) -> Result<u64, StoreQueryError> {
        self.query(DELETE_TIMEOUT, predictions::delete_before(&self.connection, before, limit)).await
    }
}

async fn with_timeout<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, DbErr>>,
) -> Result<T, StoreQueryError> {
    match timeout(limit, answer).await {
        Err(_) => Err(StoreQueryError::Timeout(limit)),
        Ok(Err(DbErr::ConnectionAcquire(_))) => Err(StoreQueryError::NoConnection),
        Ok(answer) => answer.map_err(StoreQueryError::Failed),
    }
}

fn seed() -> Vec<User> {
    let user = |(id, name, email): (i64, &str, &str)| User { id, name: name.into(), email: email.into() };
    seed::SEED.map(user).into()
}
