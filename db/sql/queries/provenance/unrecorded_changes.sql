-- Return for each of the tables products and labels how many rows differ from the history, and the productid of one of them.
-- Return no row for a table that agrees with the history.
select table_name, count(*), min(productid)
from unrecorded_changes()
group by table_name
