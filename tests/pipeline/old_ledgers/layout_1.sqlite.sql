-- A ledger of layout 1, written by the code of commit 020bcce. See README.md.
BEGIN TRANSACTION;
CREATE TABLE dotdigital_bookmarks (
	scope INTEGER NOT NULL, 
	digest TEXT NOT NULL, 
	run INTEGER NOT NULL, 
	acknowledged_at TEXT NOT NULL, 
	PRIMARY KEY (scope, digest)
);
INSERT INTO "dotdigital_bookmarks" VALUES(1,'5cea36042f02641133a677ee41ca2c9dff028ca2e9aa0de2de60f8696a817137',1,'2026-09-22T17:00:02.500000+00:00');
INSERT INTO "dotdigital_bookmarks" VALUES(1,'2a3ef491a6306546f6ef8c0a3f15602f4907b0661859bcf67e95abcafcd2bc2c',2,'2026-09-23T17:00:07.500000+00:00');
INSERT INTO "dotdigital_bookmarks" VALUES(1,'47de670e195c2443b80a43a6a2f6c5ed725944f52ad41fcc50e827ada83d62a9',4,'2026-09-25T17:00:12.500000+00:00');
INSERT INTO "dotdigital_bookmarks" VALUES(1,'78c1ce5727eb7e6c1478f8aaaa383c8bdb6fd003bae0fb05ba44ec4c2be3540a',5,'2026-09-26T17:00:17.500000+00:00');
INSERT INTO "dotdigital_bookmarks" VALUES(2,'78c1ce5727eb7e6c1478f8aaaa383c8bdb6fd003bae0fb05ba44ec4c2be3540a',6,'2026-09-27T19:30:20+00:00');
CREATE TABLE dotdigital_contacts (
	scope INTEGER NOT NULL, 
	email TEXT NOT NULL, 
	stream TEXT, 
	names TEXT, 
	desired TEXT NOT NULL, 
	confirmed TEXT, 
	in_address_book BOOLEAN NOT NULL, 
	membership_tries INTEGER DEFAULT 0 NOT NULL, 
	contact_id INTEGER, 
	result_unknown BOOLEAN NOT NULL, 
	removed BOOLEAN NOT NULL, 
	excluded BOOLEAN DEFAULT 0 NOT NULL, 
	rejected TEXT, 
	rejection TEXT, 
	rejections INTEGER DEFAULT 0 NOT NULL, 
	retry_at FLOAT, 
	rejected_since FLOAT, 
	rejected_at FLOAT, 
	held INTEGER, 
	restored INTEGER, 
	pending BOOLEAN NOT NULL, 
	changed_run INTEGER, 
	checked_run INTEGER, 
	PRIMARY KEY (scope, email)
)
 WITHOUT ROWID

;
INSERT INTO "dotdigital_contacts" VALUES(1,'p00@example.com','people','["Affinity: Nike","Affinity: Puma","VIP"]','{"NOSTOSEGMENT":"Affinity: Nike","NOSTOSEGMENT_2":"Affinity: Puma;VIP"}','{"NOSTOSEGMENT":"Affinity: Nike","NOSTOSEGMENT_2":"Affinity: Puma;VIP"}',1,0,35000001,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,1,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p01@example.com','people','["Affinity: Nike","Affinity: Puma","VIP"]','{"NOSTOSEGMENT":"Affinity: Nike","NOSTOSEGMENT_2":"Affinity: Puma;VIP"}','{"NOSTOSEGMENT":"Affinity: Nike","NOSTOSEGMENT_2":"Affinity: Puma;VIP"}',1,0,35000002,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,1,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p02@example.com','people','["Affinity: Nike","Affinity: Puma","VIP"]','{"NOSTOSEGMENT":"Affinity: Nike","NOSTOSEGMENT_2":"Affinity: Puma;VIP"}','{"NOSTOSEGMENT":"Affinity: Nike","NOSTOSEGMENT_2":"Affinity: Puma;VIP"}',1,0,35000003,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,1,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p03@example.com','people','["Affinity: Nike","Affinity: Puma","VIP"]','{"NOSTOSEGMENT":"Affinity: Nike","NOSTOSEGMENT_2":"Affinity: Puma;VIP"}','{"NOSTOSEGMENT":"Affinity: Nike","NOSTOSEGMENT_2":"Affinity: Puma;VIP"}',1,0,35000004,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,1,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p04@example.com','people','["Affinity: Nike","Affinity: Puma","VIP"]','{"NOSTOSEGMENT":"Affinity: Nike","NOSTOSEGMENT_2":"Affinity: Puma;VIP"}','{"NOSTOSEGMENT":"Affinity: Nike","NOSTOSEGMENT_2":"Affinity: Puma;VIP"}',1,0,35000005,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,1,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p05@example.com','people','["Lapsed"]','{"NOSTOSEGMENT":"Lapsed"}','{"NOSTOSEGMENT":"Lapsed"}',1,0,35000006,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,2,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p06@example.com','people','["Lapsed"]','{"NOSTOSEGMENT":"Lapsed"}','{"NOSTOSEGMENT":"Lapsed"}',1,0,35000007,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,2,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p07@example.com','people','["Lapsed"]','{"NOSTOSEGMENT":"Lapsed"}','{"NOSTOSEGMENT":"Lapsed"}',1,0,35000008,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,2,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p08@example.com','people','["Lapsed"]','{"NOSTOSEGMENT":"Lapsed"}','{"NOSTOSEGMENT":"Lapsed"}',1,0,35000009,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,2,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p09@example.com','people','["Lapsed"]','{"NOSTOSEGMENT":"Lapsed"}','{"NOSTOSEGMENT":"Lapsed"}',1,0,35000010,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,2,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p10@example.com','people','[]','{}','{}',1,0,35000011,0,1,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,2,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p11@example.com','people','["Lapsed"]','{"NOSTOSEGMENT":"Lapsed"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000012,0,0,0,'{"NOSTOSEGMENT":"Lapsed"}','globallySuppressed',1,NULL,1790182807.5,1790182807.5,NULL,NULL,0,2,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p12@example.com','people','["Lapsed"]','{"NOSTOSEGMENT":"Lapsed"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000013,0,0,0,'{"NOSTOSEGMENT":"Lapsed"}','somethingNew',3,1790686817.5,1790182807.5,1790442017.5,NULL,NULL,0,2,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p13@example.com','people','["Lapsed"]','{"NOSTOSEGMENT":"Lapsed"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000014,0,0,0,NULL,NULL,0,NULL,NULL,NULL,7,NULL,0,3,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p14@example.com','people','["Lapsed"]','{"NOSTOSEGMENT":"Lapsed"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000015,0,0,0,NULL,NULL,0,NULL,NULL,NULL,7,NULL,0,3,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p15@example.com','people','["Lapsed"]','{"NOSTOSEGMENT":"Lapsed"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000016,0,0,0,NULL,NULL,0,NULL,NULL,NULL,7,NULL,0,3,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p16@example.com','people','["Lapsed"]','{"NOSTOSEGMENT":"Lapsed"}','{"NOSTOSEGMENT":"Lapsed"}',1,0,35000017,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,5,5);
INSERT INTO "dotdigital_contacts" VALUES(1,'p17@example.com','people','["Lapsed"]','{"NOSTOSEGMENT":"Lapsed"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000018,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,1,7,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p18@example.com','people','["Lapsed"]','{"NOSTOSEGMENT":"Lapsed"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000019,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,1,7,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p19@example.com','people','["Lapsed"]','{"NOSTOSEGMENT":"Lapsed"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000020,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,1,7,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p20@example.com','people','["VIP"]','{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000021,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,1,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p21@example.com','people','["VIP"]','{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000022,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,1,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p22@example.com','people','["VIP"]','{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000023,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,1,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p23@example.com','people','["VIP"]','{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000024,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,1,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p24@example.com','people','["VIP"]','{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000025,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,1,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p25@example.com','people','["VIP"]','{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000026,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,1,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p26@example.com','people','["VIP"]','{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000027,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,1,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p27@example.com','people','["VIP"]','{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000028,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,1,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p28@example.com','people','["VIP"]','{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000029,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,1,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p29@example.com','people','["VIP"]','{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000030,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,1,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p30@example.com','people','["VIP"]','{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000031,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,1,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p31@example.com','people','["VIP"]','{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000032,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,1,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p32@example.com','people','["VIP"]','{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000033,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,1,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p33@example.com','people','["VIP"]','{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000034,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,1,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p34@example.com','people','["VIP"]','{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000035,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,1,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p35@example.com','people','["VIP"]','{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000036,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,1,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p36@example.com','people','["VIP"]','{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000037,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,1,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p37@example.com','people','["VIP"]','{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000038,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,1,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p38@example.com','people','["VIP"]','{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000039,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,1,4);
INSERT INTO "dotdigital_contacts" VALUES(1,'p39@example.com','people','["VIP"]','{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"VIP"}',1,0,35000040,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,1,4);
INSERT INTO "dotdigital_contacts" VALUES(2,'p00@example.com','people','["VIP"]','{"OTHERFIELD":"VIP"}','{"OTHERFIELD":"VIP"}',1,0,35000001,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,6,6);
INSERT INTO "dotdigital_contacts" VALUES(2,'p01@example.com','people','["VIP"]','{"OTHERFIELD":"VIP"}','{"OTHERFIELD":"VIP"}',1,0,35000002,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,6,6);
INSERT INTO "dotdigital_contacts" VALUES(2,'p02@example.com','people','["VIP"]','{"OTHERFIELD":"VIP"}','{"OTHERFIELD":"VIP"}',1,0,35000003,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,6,6);
CREATE TABLE dotdigital_deliveries (
	import INTEGER NOT NULL, 
	email TEXT NOT NULL, 
	contact_id INTEGER, 
	"before" TEXT, 
	"after" TEXT NOT NULL, 
	outcome TEXT, 
	reason TEXT, 
	PRIMARY KEY (import, email)
)
 WITHOUT ROWID

;
INSERT INTO "dotdigital_deliveries" VALUES(1,'p00@example.com',NULL,NULL,'{"NOSTOSEGMENT":"Affinity: Nike","NOSTOSEGMENT_2":"Affinity: Puma;VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(1,'p01@example.com',NULL,NULL,'{"NOSTOSEGMENT":"Affinity: Nike","NOSTOSEGMENT_2":"Affinity: Puma;VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(1,'p02@example.com',NULL,NULL,'{"NOSTOSEGMENT":"Affinity: Nike","NOSTOSEGMENT_2":"Affinity: Puma;VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(1,'p03@example.com',NULL,NULL,'{"NOSTOSEGMENT":"Affinity: Nike","NOSTOSEGMENT_2":"Affinity: Puma;VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(1,'p04@example.com',NULL,NULL,'{"NOSTOSEGMENT":"Affinity: Nike","NOSTOSEGMENT_2":"Affinity: Puma;VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(1,'p05@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(1,'p06@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(1,'p07@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(1,'p08@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(1,'p09@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(2,'p10@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(2,'p11@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(2,'p12@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(2,'p13@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(2,'p14@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(2,'p15@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(2,'p16@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(2,'p17@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(2,'p18@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(2,'p19@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(3,'p20@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(3,'p21@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(3,'p22@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(3,'p23@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(3,'p24@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(3,'p25@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(3,'p26@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(3,'p27@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(3,'p28@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(3,'p29@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(4,'p30@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(4,'p31@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(4,'p32@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(4,'p33@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(4,'p34@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(4,'p35@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(4,'p36@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(4,'p37@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(4,'p38@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(4,'p39@example.com',NULL,NULL,'{"NOSTOSEGMENT":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(5,'p10@example.com',35000011,'{"NOSTOSEGMENT":"VIP"}','{}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(6,'p05@example.com',NULL,'{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"Lapsed"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(6,'p06@example.com',NULL,'{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"Lapsed"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(6,'p07@example.com',NULL,'{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"Lapsed"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(6,'p08@example.com',NULL,'{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"Lapsed"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(6,'p09@example.com',NULL,'{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"Lapsed"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(6,'p11@example.com',NULL,'{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"Lapsed"}','rejected','globallySuppressed');
INSERT INTO "dotdigital_deliveries" VALUES(6,'p12@example.com',NULL,'{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"Lapsed"}','rejected','somethingNew');
INSERT INTO "dotdigital_deliveries" VALUES(7,'p13@example.com',NULL,'{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"Lapsed"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(7,'p14@example.com',NULL,'{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"Lapsed"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(7,'p15@example.com',NULL,'{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"Lapsed"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(8,'p12@example.com',NULL,'{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"Lapsed"}','rejected','somethingNew');
INSERT INTO "dotdigital_deliveries" VALUES(9,'p16@example.com',NULL,'{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"Lapsed"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(10,'p12@example.com',NULL,'{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"Lapsed"}','rejected','somethingNew');
INSERT INTO "dotdigital_deliveries" VALUES(11,'p00@example.com',NULL,'{}','{"OTHERFIELD":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(11,'p01@example.com',NULL,'{}','{"OTHERFIELD":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(11,'p02@example.com',NULL,'{}','{"OTHERFIELD":"VIP"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(12,'p17@example.com',NULL,'{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"Lapsed"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(12,'p18@example.com',NULL,'{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"Lapsed"}',NULL,NULL);
INSERT INTO "dotdigital_deliveries" VALUES(12,'p19@example.com',NULL,'{"NOSTOSEGMENT":"VIP"}','{"NOSTOSEGMENT":"Lapsed"}',NULL,NULL);
CREATE TABLE dotdigital_imports (
	id INTEGER NOT NULL, 
	scope INTEGER NOT NULL, 
	run INTEGER NOT NULL, 
	import_id TEXT, 
	state TEXT NOT NULL, 
	attempt INTEGER NOT NULL, 
	submitted_at FLOAT NOT NULL, 
	settled_run INTEGER, 
	lost_at FLOAT, 
	verified BOOLEAN DEFAULT 0 NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "dotdigital_imports" VALUES(1,1,1,'369c5097-97a4-4498-93e5-7de0e63efb41','finished',1,1790096400.0,1,NULL,1);
INSERT INTO "dotdigital_imports" VALUES(2,1,1,'b90ae8b1-53aa-4c27-ba4a-53c9c0064a1b','finished',1,1790096400.0,1,NULL,1);
INSERT INTO "dotdigital_imports" VALUES(3,1,1,'9ea95206-8da7-4634-bfaf-45ca96e6fbcc','finished',1,1790096400.0,1,NULL,1);
INSERT INTO "dotdigital_imports" VALUES(4,1,1,'6cb60de4-6d79-4ec4-a5db-c7a9f4622e6e','finished',1,1790096400.0,1,NULL,1);
INSERT INTO "dotdigital_imports" VALUES(5,1,2,'3bbc2617-2a10-474c-98c4-608b08ddc9ad','finished',1,1790182802.5,2,NULL,1);
INSERT INTO "dotdigital_imports" VALUES(6,1,2,'b4e2b0b6-5bef-44de-a044-557ddec89d81','finished',1,1790182805.0,2,NULL,1);
INSERT INTO "dotdigital_imports" VALUES(7,1,3,'bf252a8c-456d-4d05-b012-23792bf9aadc','rejected',1,1790191807.5,3,NULL,1);
INSERT INTO "dotdigital_imports" VALUES(8,1,4,'e147de0b-7cb6-4fff-be87-5a1eb06e08e0','finished',1,1790355610.0,4,NULL,1);
INSERT INTO "dotdigital_imports" VALUES(9,1,5,'f4f63236-792d-4f0b-b920-beb7c563574a','finished',1,1790442012.5,5,NULL,1);
INSERT INTO "dotdigital_imports" VALUES(10,1,5,'9c0076fa-e44e-4726-80ad-0382c0e5ce31','finished',1,1790442015.0,5,NULL,1);
INSERT INTO "dotdigital_imports" VALUES(11,2,6,'edc98b0c-651d-4b3f-be06-c2c0f220a5d6','finished',1,1790537417.5,6,NULL,1);
INSERT INTO "dotdigital_imports" VALUES(12,1,7,'10eaa6b1-5215-4b6a-9adb-481ad33884a3','open',1,1790546420.0,NULL,NULL,0);
CREATE TABLE dotdigital_runs (
	id INTEGER NOT NULL, 
	scope INTEGER NOT NULL, 
	started_at TEXT NOT NULL, 
	finished_at TEXT, 
	outcome TEXT, 
	segments TEXT, 
	figures TEXT, 
	PRIMARY KEY (id)
);
INSERT INTO "dotdigital_runs" VALUES(1,1,'2026-09-22T17:00:00+00:00','2026-09-22T17:00:02.500000+00:00','delivered','{"Affinity: Nike":5,"Affinity: Puma":5,"VIP":40}','{"read":40,"sent":40,"created":40,"updated":0,"cleared":0,"rejected":0,"unconfirmed":0,"bookmarks":{"people":"2026-11-01"},"restored_run":null}');
INSERT INTO "dotdigital_runs" VALUES(2,1,'2026-09-23T17:00:02.500000+00:00','2026-09-23T17:00:07.500000+00:00','delivered','{"Affinity: Nike":5,"Affinity: Puma":5,"Lapsed":7,"VIP":32}','{"read":8,"sent":8,"created":0,"updated":6,"cleared":1,"rejected":2,"unconfirmed":0,"bookmarks":{"people":"2026-11-02"},"restored_run":null}');
INSERT INTO "dotdigital_runs" VALUES(3,1,'2026-09-23T19:30:07.500000+00:00','2026-09-23T19:30:10+00:00','failed',NULL,'{"read":3,"sent":3,"created":0,"updated":0,"cleared":0,"rejected":0,"unconfirmed":3,"bookmarks":{"people":"2026-11-03"},"restored_run":null}');
INSERT INTO "dotdigital_runs" VALUES(4,1,'2026-09-25T17:00:10+00:00','2026-09-25T17:00:12.500000+00:00','partly delivered','{"Affinity: Nike":5,"Affinity: Puma":5,"Lapsed":10,"VIP":29}','{"read":3,"sent":1,"created":0,"updated":0,"cleared":0,"rejected":1,"unconfirmed":0,"bookmarks":{"people":"2026-11-03"},"restored_run":null}');
INSERT INTO "dotdigital_runs" VALUES(5,1,'2026-09-26T17:00:12.500000+00:00','2026-09-26T17:00:17.500000+00:00','partly delivered','{"Affinity: Nike":5,"Affinity: Puma":5,"Lapsed":11,"VIP":28}','{"read":1,"sent":2,"created":0,"updated":1,"cleared":0,"rejected":1,"unconfirmed":0,"bookmarks":{"people":"2026-11-04"},"restored_run":null}');
INSERT INTO "dotdigital_runs" VALUES(6,2,'2026-09-27T19:30:17.500000+00:00','2026-09-27T19:30:20+00:00','delivered','{"VIP":3}','{"read":3,"sent":3,"created":0,"updated":3,"cleared":0,"rejected":0,"unconfirmed":0,"bookmarks":{"people":"2026-11-04"},"restored_run":null}');
INSERT INTO "dotdigital_runs" VALUES(7,1,'2026-09-27T22:00:20+00:00','2026-09-27T22:01:34.886719+00:00','failed',NULL,'{"read":3,"sent":3,"created":0,"updated":0,"cleared":0,"rejected":0,"unconfirmed":3,"bookmarks":{"people":"2026-11-05"},"restored_run":null}');
CREATE TABLE dotdigital_scopes (
	id INTEGER NOT NULL, 
	account_id INTEGER NOT NULL, 
	data_field TEXT NOT NULL, 
	address_book TEXT, 
	labels TEXT, 
	segments TEXT, 
	terms TEXT, 
	account_contacts INTEGER, 
	read_at FLOAT, 
	address_book_id INTEGER, 
	address_book_offset INTEGER, 
	whole BOOLEAN DEFAULT 0 NOT NULL, 
	forgotten BOOLEAN DEFAULT 0 NOT NULL, 
	changed_run INTEGER DEFAULT 0 NOT NULL, 
	streams TEXT, 
	feeds TEXT, 
	truncated TEXT, 
	PRIMARY KEY (id), 
	UNIQUE (account_id, data_field)
);
INSERT INTO "dotdigital_scopes" VALUES(1,101,'NOSTOSEGMENT','nosto contacts','{"delimiter":";","enclosed":false,"field":"NOSTOSEGMENT","labels":[],"length":20,"overflow":"spill","priority":[],"uploads":"all"}','{"Affinity: Nike":5,"Affinity: Puma":5,"Lapsed":14,"VIP":25}','{"email_property":"email","segments_property":"segments","on_removed":"clear","exclude_emails":[],"stream_maps":null}',40,1790546420.0,5002,0,1,0,7,'["people"]','{"people":{"version":1,"marks":true}}',NULL);
INSERT INTO "dotdigital_scopes" VALUES(2,101,'OTHERFIELD','nosto contacts','{"delimiter":";","enclosed":false,"field":"OTHERFIELD","labels":[],"length":20,"overflow":"spill","priority":[],"uploads":"all"}','{"VIP":3}','{"email_property":"email","segments_property":"segments","on_removed":"clear","exclude_emails":[],"stream_maps":null}',40,1790537417.0,5002,37,1,0,6,'["people"]','{"people":{"version":1,"marks":true}}',NULL);
ANALYZE "sqlite_master";
INSERT INTO "sqlite_stat1" VALUES('dotdigital_contacts','dotdigital_contacts','1000000 1000000 1');
INSERT INTO "sqlite_stat1" VALUES('dotdigital_contacts','dotdigital_contacts_pending','10000 10000 1');
INSERT INTO "sqlite_stat1" VALUES('dotdigital_contacts','dotdigital_contacts_unaccepted','10000 10000 1');
CREATE INDEX dotdigital_contacts_pending ON dotdigital_contacts (scope, email) WHERE pending = 1;
CREATE INDEX dotdigital_contacts_unaccepted ON dotdigital_contacts (scope, email) WHERE rejection IS NOT NULL OR held IS NOT NULL OR result_unknown = 1;
COMMIT;
