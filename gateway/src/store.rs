//! Users: from a database, or the fixed list where none is configured. The only file that speaks SQL.
//!
//! Comes in: a URL, then questions. Goes out: users. Never: a change to a database that has been set up before;
//! only a new one is filled.

mod seed;
#[expect(unreachable_pub, reason = "sea-orm's derive makes a public entity, and wants its row to be so too")]
mod user;
mod migration;

use sea_orm::{ConnectOptions, Database, DatabaseConnection, DbErr, EntityTrait as _, QueryOrder as _};
use sea_orm_migration::MigratorTrait as _;

/// A user.
pub(crate) type User = user::Model;

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is of a kind that is not spoken.
    #[error("a database at {scheme}: is not supported; CANOPY_DATABASE_URL must be sqlite://PATH")]
    Kind {
        /// What the URL begins with; the rest may hold a password.
        scheme: String,
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

/// Where users come from.
pub(crate) enum Store {
    /// The fixed list.
    Seed,
    /// A database whose tables are there.
    Database(DatabaseConnection),
}

impl Store {
    /// Opens the database at `url`, makes what is missing in it, and fills it if it is new.
    pub(crate) async fn open(url: Option<&str>) -> Result<Self, StoreError> {
        let Some(url) = url.map(str::trim).filter(|url| !url.is_empty()) else {
            return Ok(Self::Seed);
        };
        if !url.starts_with("sqlite:") {
            let scheme = url.split(':').next().unwrap_or_default().to_owned();
            return Err(StoreError::Kind { scheme });
        }
        let mut options = ConnectOptions::new(url);
        options.sqlx_logging(false).map_sqlx_sqlite_opts(|options| options.create_if_missing(true));
        let database =
            Database::connect(options).await.map_err(|why| StoreError::Open { url: url.to_owned(), why })?;
        migration::Migrator::up(&database, None).await.map_err(|why| {
            // SQLite opens any file and looks into it only when it is first asked something.
            if why.to_string().contains("not a database") {
                StoreError::Open { url: url.to_owned(), why }
            } else {
                StoreError::Tables { url: url.to_owned(), why }
            }
        })?;
        Ok(Self::Database(database))
    }

    /// All users, in the order of their ids.
    pub(crate) async fn users(&self) -> Result<Vec<User>, DbErr> {
        match self {
            Self::Seed => Ok(seed()),
            Self::Database(database) => {
                user::Entity::find().order_by_asc(user::Column::Id).all(database).await
            }
        }
    }

    /// The user with `id`, where there is one.
    pub(crate) async fn user(&self, id: i64) -> Result<Option<User>, DbErr> {
        match self {
            Self::Seed => Ok(seed().into_iter().find(|user| user.id == id)),
            Self::Database(database) => user::Entity::find_by_id(id).one(database).await,
        }
    }
}

fn seed() -> Vec<User> {
    let user = |(id, name, email): (i64, &str, &str)| User { id, name: name.into(), email: email.into() };
    seed::SEED.map(user).into()
}
