merge into labels
using (select * from correction where changes_label) as correction
on labels.productid = correction.productid
when matched and operation = 'delete' then delete
when matched then update set prdtypecode = correction.prdtypecode
when not matched then insert (productid, prdtypecode) values (productid, prdtypecode)
