-- Immutable objects: canonical JSON, packed with zstd where that is shorter (packed = 1).
create table object (
    id     blob primary key not null,
    packed integer not null,
    data   blob not null
);

-- The only mutable things: names of objects. Moved by compare-and-swap.
create table ref (
    name   text primary key not null,
    object blob not null
);

-- The chain of everything that anybody changed. `hash` is that of the canonical JSON of the other columns.
create table ledger (
    number   integer primary key not null,
    time     integer not null,
    actor    text not null,
    action   text not null,
    subject  text not null,
    detail   text not null,
    previous blob not null,
    hash     blob not null
);

-- Under which name a rendered shard may be asked for, and until when: clients cache shard indexes, so that
-- the shards of superseded ones stay readable for a while.
create table shard_name (
    channel  text not null,
    subdir   text not null,
    name     blob not null,
    renderer integer not null,
    shard    blob not null,
    until    integer not null,
    primary key (channel, subdir, name)
);

create index shard_name_by_shard on shard_name (shard, renderer);
