-- What is wrong with the pipeline now, each problem with its remedy.
select severity, finding, subject, detail, remedy
from pipeline_doctor()
order by severity, finding, subject
