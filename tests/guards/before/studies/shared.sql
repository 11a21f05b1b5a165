BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('v3.2.0.a');
CREATE TABLE studies (
	study_id INTEGER NOT NULL, 
	study_name VARCHAR(512) NOT NULL, 
	PRIMARY KEY (study_id)
);
INSERT INTO "studies" VALUES(1,'small/study');
CREATE TABLE study_directions (
	study_direction_id INTEGER NOT NULL, 
	direction VARCHAR(8) NOT NULL, 
	study_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	PRIMARY KEY (study_direction_id), 
	UNIQUE (study_id, objective), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_directions" VALUES(1,'MAXIMIZE',1,0);
CREATE TABLE study_system_attributes (
	study_system_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_system_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
CREATE TABLE study_user_attributes (
	study_user_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_user_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_user_attributes" VALUES(1,1,'unblur study','{"schema": 1, "model": {"kind": "mult-dae", "dims": [6], "activation": "tanh", "dropout": 0.5, "optimizer": {"name": "adam", "learning_rate": 0.001, "weight_decay": 0.0, "clip_norm": null, "epsilon": 1e-08}, "epochs": 2, "batch_size": 16, "precision": "float32", "stopping": {"metric": "recall@10", "every": 1, "patience": 20, "carve": "last", "fraction": 0.209}}, "space": [{"name": "optimizer.learning_rate", "choice": [0.003, 0.001, 0.0003], "paths": ["optimizer.learning_rate"]}, {"name": "dropout", "choice": [0.2, 0.5, 0.7], "paths": ["dropout"]}], "metric": "recall@10", "sampler": "random", "seed": 0, "train": "sha256:b73bf00fafb6d5bdce9aa9585c164f6211be822bf866251ddd05e1b3435b5fe4", "validation": "sha256:de14b18e7b584f0f639ec8bfc393bd7a328562606530bcd9a38e71d29a3ad61c"}');
CREATE TABLE trial_heartbeats (
	trial_heartbeat_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	heartbeat DATETIME NOT NULL, 
	PRIMARY KEY (trial_heartbeat_id), 
	UNIQUE (trial_id), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_heartbeats" VALUES(1,1,'2026-11-27 15:27:23');
INSERT INTO "trial_heartbeats" VALUES(2,2,'2026-11-27 15:27:23');
INSERT INTO "trial_heartbeats" VALUES(3,3,'2026-11-27 15:27:24');
CREATE TABLE trial_intermediate_values (
	trial_intermediate_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	intermediate_value FLOAT, 
	intermediate_value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_intermediate_value_id), 
	UNIQUE (trial_id, step), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_intermediate_values" VALUES(1,1,1,5.2333333333333331705e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(2,1,2,0.6,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(3,2,1,5.13333333333333308168e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(4,2,2,5.2333333333333331705e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(5,3,1,5.13333333333333308168e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(6,3,2,5.13333333333333308168e-01,'FINITE');
CREATE TABLE trial_params (
	param_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	param_name VARCHAR(512), 
	param_value FLOAT, 
	distribution_json TEXT, 
	PRIMARY KEY (param_id), 
	UNIQUE (trial_id, param_name), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_params" VALUES(1,1,'optimizer.learning_rate',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["0.003", "0.001", "0.0003"]}}');
INSERT INTO "trial_params" VALUES(2,1,'dropout',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["0.2", "0.5", "0.7"]}}');
INSERT INTO "trial_params" VALUES(3,2,'optimizer.learning_rate',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["0.003", "0.001", "0.0003"]}}');
INSERT INTO "trial_params" VALUES(4,2,'dropout',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["0.2", "0.5", "0.7"]}}');
INSERT INTO "trial_params" VALUES(5,3,'optimizer.learning_rate',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["0.003", "0.001", "0.0003"]}}');
INSERT INTO "trial_params" VALUES(6,3,'dropout',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["0.2", "0.5", "0.7"]}}');
CREATE TABLE trial_system_attributes (
	trial_system_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_system_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_user_attributes (
	trial_user_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_user_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_user_attributes" VALUES(1,1,'unblur trial','0');
INSERT INTO "trial_user_attributes" VALUES(2,1,'unblur result','{"number": 0, "point": {"optimizer.learning_rate": 0.003, "dropout": 0.7}, "value": 0.6, "epochs": 2, "seconds": 0.18101659499984635, "problem": "", "validations": {"1": 0.5233333333333333, "2": 0.6}, "pruned": false}');
INSERT INTO "trial_user_attributes" VALUES(3,2,'unblur trial','1');
INSERT INTO "trial_user_attributes" VALUES(4,2,'unblur result','{"number": 1, "point": {"optimizer.learning_rate": 0.001, "dropout": 0.2}, "value": 0.9375, "epochs": 2, "seconds": 0.1590891560001637, "problem": "", "validations": {"1": 0.5133333333333333, "2": 0.5233333333333333}, "pruned": false}');
INSERT INTO "trial_user_attributes" VALUES(5,3,'unblur trial','2');
INSERT INTO "trial_user_attributes" VALUES(6,3,'unblur result','{"number": 2, "point": {"optimizer.learning_rate": 0.0003, "dropout": 0.5}, "value": 0.5133333333333333, "epochs": 1, "seconds": 0.16227948100004141, "problem": "", "validations": {"1": 0.5133333333333333, "2": 0.5133333333333333}, "pruned": false}');
CREATE TABLE trial_values (
	trial_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	value FLOAT, 
	value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_value_id), 
	UNIQUE (trial_id, objective), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_values" VALUES(1,1,0,0.6,'FINITE');
INSERT INTO "trial_values" VALUES(2,2,0,5.2333333333333331705e-01,'FINITE');
INSERT INTO "trial_values" VALUES(3,3,0,5.13333333333333308168e-01,'FINITE');
CREATE TABLE trials (
	trial_id INTEGER NOT NULL, 
	number INTEGER, 
	study_id INTEGER, 
	state VARCHAR(8) NOT NULL, 
	datetime_start DATETIME, 
	datetime_complete DATETIME, 
	PRIMARY KEY (trial_id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "trials" VALUES(1,0,1,'COMPLETE','2026-11-27 15:27:23.255169','2026-11-27 15:27:23.709963');
INSERT INTO "trials" VALUES(2,1,1,'COMPLETE','2026-11-27 15:27:23.795368','2026-11-27 15:27:24.179122');
INSERT INTO "trials" VALUES(3,2,1,'COMPLETE','2026-11-27 15:27:24.252313','2026-11-27 15:27:24.642796');
CREATE TABLE version_info (
	version_info_id INTEGER NOT NULL, 
	schema_version INTEGER, 
	library_version VARCHAR(256), 
	PRIMARY KEY (version_info_id), 
	CHECK (version_info_id=1)
);
INSERT INTO "version_info" VALUES(1,12,'5.0.0');
CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name);
CREATE INDEX ix_trials_study_id ON trials (study_id);
COMMIT;
