-- Who was sent which artifact. One row for a day, a file and a client: a client in a loop adds to a number and not to the
-- table. `day` counts from 1970; `client` and `account` are empty where nobody is named.
create table download (
    channel  text not null,
    artifact text not null,
    sha256   blob not null,
    day      integer not null,
    client   text not null,
    account  text not null,
    agent    text not null,
    first_at integer not null,
    last_at  integer not null,
    times    integer not null,
    primary key (channel, artifact, sha256, day, client, account, agent)
) without rowid;

create index download_by_hash on download (sha256);
create index download_by_day on download (day);

-- How many downloads of a day were not noted, since more came than could be written.
create table download_lost (
    day   integer primary key not null,
    times integer not null
);
