select * from resources order by name
select r.name, length(content) as n from resources r where owner like 'key:%' or content like '%every%' order by 1
select count(*), sum(part), avg(part), min(name), max(created_at) from resources
select name from resources union all select name from entities order by 1 desc
select category, count(*) as n from resources group by category having count(*) >= 1
select 7 / 2, 7 % 4, -7 / 2, 7 / 0, 7.0 / 2, 1.5 * 2
select round(2.5), round(1.25, 1), cast(2.5 as int), cast('12' as integer) + 1, abs(-3)
select substr(name, 1, 3), upper(name), lower(name), trim('  x '), name || '-' || lower(name) || 1 from entities
select coalesce(uri, 'none'), nullif(part, 1), case when part > 1 then 'b' else 'a' end from resources order by part
select name, row_number() over (order by part desc), lag(name) over (order by part) from resources order by part
with x as (select name, part from resources) select a.name, b.name from x a join x b on a.part < b.part order by 1, 2
select name, (select count(*) from entities) from resources where part in (1, 2, 3) order by name limit 1 offset 1
select e.name from entities e where exists (select 1 from resources r where r.id < e.id) and not e.name is null
select distinct category from resources where uri is null and part between 1 and 9
select a.name, b.name from resources a left join entities b on b.id = a.id order by a.name
select count(distinct owner), count(*) filter (where part = 1) from resources
select name, starts_at, ends_at, summary from moments where starts_at > '2024-01-01' order by starts_at desc
select source, type, target, weight from edges where weight >= 0.5
select model, sum(cost_usd), sum(saved_usd), count(*) from requests group by model
select n.key, n.table_name, n.alias from names n where n.name like 'm%'
select name from resources intersect select name from names except select target from edges
select replace(name, 'a', 'b'), instr(name, 'i'), hex(name), typeof(part), json_extract(tags, '$[0]') from resources
