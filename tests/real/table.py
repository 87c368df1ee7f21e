"""A database with a journal, written by threads and by a second connection."""
import sqlite3
import threading

db = sqlite3.connect("t.db", timeout=10)
print(db.execute("pragma journal_mode=wal").fetchone())
db.execute("create table t (a integer primary key, b text)")
with db:
    db.executemany("insert into t (b) values (?)", [(f"row {n}",) for n in range(500)])


def insert(n):
    own = sqlite3.connect("t.db", timeout=10)
    with own:
        own.execute("insert into t (b) values (?)", (f"thread {n}",))
    own.close()


threads = [threading.Thread(target=insert, args=(n,)) for n in range(3)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print(db.execute("select count(*), max(length(b)) from t").fetchone())
print(db.execute("pragma integrity_check").fetchone())
db.execute("pragma wal_checkpoint(truncate)")
db.close()
