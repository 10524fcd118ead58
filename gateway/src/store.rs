//! What outlives a process: users, answers, and the truth about them. The only file that speaks SQL, with those below it.
//!
//! Comes in: a URL, then rows and questions. Goes out: rows. Never: a change to what a person changed in a database that
//! has been set up before; only a new one is filled. Nor a wait without end: a database that is silent is one that is away.

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
/// An answer.
pub(crate) type PredictionRow = prediction::Model;
/// A revision that has answered.
pub(crate) type RevisionRow = revision::Model;
/// What was told about an answer.
pub(crate) type FeedbackRow = feedback::Model;

/// How long the tables may take to be made: an index of a large table takes minutes.
const MIGRATION_TIMEOUT: Duration = Duration::from_mins(5);
/// How long it may take to delete some answers.
const DELETE_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is of a kind that is not spoken.
    #[error(
        "a database at {scheme}: is not supported; CANOPY_DATABASE_URL must be sqlite://PATH, mysql://… or postgres://…"
    )]
    Kind {
        /// What the URL begins with; the rest may hold a password.
        scheme: String,
    },
    /// Its URL cannot be read.
    #[error(
        "CANOPY_DATABASE_URL cannot be read: {why}; it must be {scheme}://USER:PASSWORD@HOST:PORT/NAME, with signs that \
         mean something in a URL as %XX"
    )]
    Unreadable {
        /// What the URL begins with; the rest may hold a password.
        scheme: String,
        /// In the reader's words.
        why: String,
    },
    /// It cannot be opened.
    #[error(
        "failed to open database {url}: {why}; is its folder there, may this process write to it, and is the \
         file a database? Mend it, or name another in CANOPY_DATABASE_URL"
    )]
    Open {
        /// Which.
        url: String,
        /// In the driver's words.
        why: DbErr,
    },
    /// Its tables cannot be brought to the form that this program knows.
    #[error(
        "failed to prepare the tables of database {url}: {why}; this process must be allowed to write to it, and \
         one made by a later version of Canopy needs that version; else name another in CANOPY_DATABASE_URL"
    )]
    Tables {
        /// Which.
        url: String,
        /// In the driver's words.
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

/// Why a database that was opened gave no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum StoreQueryError {
    /// It is silent.
    #[error("the database did not answer within {0:?}")]
    Timeout(Duration),
    /// Nobody is there, or all connections are busy.
    #[error("no connection to the database can be had")]
    NoConnection,
    /// In the driver's words.
    #[error("{0}")]
    Failed(DbErr),
}

impl StoreQueryError {
    /// Whether the database was there and would not: the same again may meet with the same.
    pub(crate) fn is_refusal(&self) -> bool {
        let Self::Failed(DbErr::Exec(RuntimeErr::SqlxError(why)) | DbErr::Query(RuntimeErr::SqlxError(why))) =
            self
        else {
            return false;
        };
        matches!(**why, sea_orm::SqlxError::Database(_) | sea_orm::SqlxError::Encode(_))
    }

    /// Whether the database may have done what it was asked all the same: it was asked, and did not say.
    pub(crate) fn may_have_been_applied(&self) -> bool {
        match self {
            Self::Timeout(_) => true,
            Self::NoConnection => false,
            Self::Failed(_) => !self.is_refusal(),
        }
    }
}

/// Where rows come from.
#[derive(Clone)]
pub(crate) enum Store {
    /// No database: the fixed list of users.
    Seed,
    /// A database.
    Database(SqlStore),
}

/// A database.
#[derive(Clone)]
pub(crate) struct SqlStore {
    connection: DatabaseConnection,
    /// Set once the tables are there.
    prepared: Arc<OnceCell<()>>,
    /// How long an answer may take.
    query_timeout: Duration,
}

impl Store {
    /// Opens the database at `url`, makes what is missing in it, and fills it if it is new. A server that is away is
    /// no failure: its tables are made once it is there.
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
                // SQLite opens any file and looks into it only when it is first asked something.
                if why.to_string().contains("not a database") {
                    StoreError::Open { url, why }
                } else {
                    StoreError::Tables { url, why }
                }
            })?;
        }
        Ok(Self::Database(store))
    }

    /// All users, in the order of their ids.
    pub(crate) async fn users(&self) -> Result<Vec<User>, StoreQueryError> {
        match self {
            Self::Seed => Ok(seed()),
            Self::Database(store) => {
                let all = user::Entity::find().order_by_asc(user::Column::Id).all(&store.connection);
                store.query(store.query_timeout, all).await
            }
        }
    }

    /// The user with `id`, where there is one.
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
        // On the heap: it is large, and needed once.
        let migrating = self.prepared.get_or_try_init(async || {
            // Where several gateways make the tables at the same time, one of them loses each step and goes on from
            // there.
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

    /// Makes the tables, where that was not done yet.
    pub(crate) async fn prepare(&self) -> Result<(), StoreQueryError> {
        with_timeout(MIGRATION_TIMEOUT, self.migrate()).await
    }

    /// The answer to `question`, once the tables are there, unless it takes longer than `limit`.
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

    /// Writes answers and what they mean; twice is as good as once.
    pub(crate) async fn write(
        &self,
        predictions: &[PredictionRow],
        revisions: &[RevisionRow],
        limit: Duration,
    ) -> Result<(), StoreQueryError> {
        // On the heap: it is large, and one for many answers.
        self.query(limit, Box::pin(predictions::write(&self.connection, predictions, revisions))).await
    }

    /// The answer `id`, where it is recorded.
    pub(crate) async fn find(&self, id: &[u8]) -> Result<Option<PredictionRecord>, StoreQueryError> {
        self.query(self.query_timeout, predictions::find(&self.connection, id)).await
    }

    /// At most `limit` answers, the latest first, of those before `after` where that is given.
    pub(crate) async fn list(
        &self,
        filter: &PredictionFilter<'_>,
        after: Option<&[u8]>,
        limit: u64,
    ) -> Result<Page, StoreQueryError> {
        self.query(self.query_timeout, predictions::list(&self.connection, filter, after, limit)).await
    }

    /// Keeps what was told about an answer; false where something was told before, by whichever gateway.
    pub(crate) async fn insert_feedback(&self, feedback: FeedbackRow) -> Result<bool, StoreQueryError> {
        self.query(self.query_timeout, Box::pin(predictions::insert_feedback(&self.connection, feedback)))
            .await
    }

    /// What was told about the answer `id`.
    pub(crate) async fn feedback_of(&self, id: &[u8]) -> Result<Option<FeedbackRow>, StoreQueryError> {
        self.query(self.query_timeout, predictions::feedback_of(&self.connection, id)).await
    }

    /// Deletes at most `most` of the answers before the id `before`; returns how many.
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
