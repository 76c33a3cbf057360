-- The bytes that the data takes, and how many more it takes each week. The row of the database includes its tables.
select kind, object, storage.bytes, is_part_of_database, bytes_per_week
from storage
left join storage_growth using (kind, object)
