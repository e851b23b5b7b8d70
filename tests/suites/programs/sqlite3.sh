# sqlite3: a file with a journal, then with a write-ahead log (which is shared memory), and two writers.
sqlite3 db 'create table t(a integer primary key, b text); with recursive n(x) as (select 1 union all select x + 1 from n where x < 20000) insert into t select x, hex(x) from n; select count(*), sum(a) from t;'
sqlite3 db 'create index i on t(b); explain query plan select * from t where b = 3; begin; delete from t where a % 2; rollback; select count(*) from t; pragma integrity_check;'
sqlite3 db 'pragma journal_mode=wal; update t set b = b || 1 where a < 100; select b from t where a = 99; vacuum; pragma journal_mode;'
(for i in 1 2 3 4 5; do sqlite3 -cmd '.timeout 20000' db "insert into t(b) values('one')"; done) & for i in 1 2 3 4 5; do sqlite3 -cmd '.timeout 20000' db "insert into t(b) values('two')"; done; wait
sqlite3 db "select b, count(*) from t where b in ('one', 'two') group by b; pragma wal_checkpoint(truncate);" ; sqlite3 -csv db 'select * from t limit 3'; sqlite3 db .dump | sed 's/^INSERT INTO t VALUES([0-9]*,/row /' | sort | sha1sum
sqlite3 :memory: 'select json_extract(json_array(1, 2, 3), "$[1]"), strftime("%Y", 0, "unixepoch"), printf("%.3f", 1 / 3.0)'; rm db*
sqlite3 /nonexistent/db 'select 1 from x'; echo $?
