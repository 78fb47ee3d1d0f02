-- When an object was last written, in seconds: what nothing refers to is only collected when it is old enough
-- that no running command can be about to refer to it.
alter table object add column born integer not null default 0;

-- The names of rendered shards, made anew at the next publication. `until` is null for what the newest snapshot
-- publishes, so that publishing touches only the rows of names that changed.
drop table shard_name;

create table shard_name (
    channel  text not null,
    subdir   text not null,
    name     blob not null,
    package  text not null,
    renderer integer not null,
    shard    blob not null,
    until    integer,
    primary key (channel, subdir, name)
);

create index shard_name_by_shard on shard_name (shard, renderer);
create index shard_name_current on shard_name (channel, subdir) where until is null;

-- Rendered indexes rest on the table above.
delete from ref where name like 'channel/%/rendered';
