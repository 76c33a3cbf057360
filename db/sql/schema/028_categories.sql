-- The name of each product class. `make schema` writes this file from shared/categories.py: change the names there.
create or replace view categories as
select prdtypecode, name
from (
    values
        (10, 'Used books'),
        (40, 'Imported video games'),
        (50, 'Video game accessories'),
        (60, 'Video game consoles'),
        (1140, 'Figurines and merchandise'),
        (1160, 'Trading cards'),
        (1180, 'Wargames and miniatures'),
        (1280, 'Toys for children'),
        (1281, 'Board games'),
        (1300, 'Scale models and drones'),
        (1301, 'Baby clothes and socks'),
        (1302, 'Outdoor games'),
        (1320, 'Baby care'),
        (1560, 'Indoor furniture'),
        (1920, 'Household linen'),
        (1940, 'Food and drinks'),
        (2060, 'Home decoration'),
        (2220, 'Pet supplies'),
        (2280, 'Magazines'),
        (2403, 'Book series and comics'),
        (2462, 'Used video games'),
        (2522, 'Stationery'),
        (2582, 'Garden furniture'),
        (2583, 'Pools and spas'),
        (2585, 'Garden tools'),
        (2705, 'New books'),
        (2905, 'Downloadable PC games')
) as named (prdtypecode, name);
