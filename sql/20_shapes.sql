-- Shapes and the columns of the data tables: what documents become.  The one source of create_schemas and of the ingest.

CREATE TABLE sophia.shapes (
  shape text PRIMARY KEY,
  target_schema text NOT NULL,
  target_table text NOT NULL,
  key text[] NOT NULL,
  key_columns text[] NOT NULL,
  reduce text NOT NULL CHECK (reduce IN ('merge', 'lastWriteWins')),
  array_pointer text,
  array_table text,
  page_pointer text,
  ignores_tombstones boolean NOT NULL DEFAULT false,
  kept_columns text[],
  kept_while text[],
  description text NOT NULL,
  CHECK (cardinality(key) = cardinality(key_columns)),
  CHECK ((array_pointer IS NULL) = (array_table IS NULL)),
  CHECK ((kept_columns IS NULL) = (kept_while IS NULL)),
  CHECK (kept_columns IS NULL OR array_table IS NOT NULL)
);
COMMENT ON TABLE sophia.shapes IS 'how the documents of a stream become rows';
COMMENT ON COLUMN sophia.shapes.shape IS 'name, as given to create_stream';
COMMENT ON COLUMN sophia.shapes.target_schema IS 'schema of the tables that the stream writes';
COMMENT ON COLUMN sophia.shapes.target_table IS 'table that the stream writes';
COMMENT ON COLUMN sophia.shapes.key IS 'JSON pointers of the key of the row, whatever the key of the collection';
COMMENT ON COLUMN sophia.shapes.key_columns IS 'columns that hold the values of key, in its order';
COMMENT ON COLUMN sophia.shapes.reduce IS 'how a document meets the row of its key: merge or lastWriteWins';
COMMENT ON COLUMN sophia.shapes.array_pointer IS 'JSON pointer of an array whose elements are rows';
COMMENT ON COLUMN sophia.shapes.array_table IS 'table of the rows made from array_pointer; where it is target_table, the document itself has no row';
COMMENT ON COLUMN sophia.shapes.page_pointer IS 'JSON pointer of an array whose elements are documents of this shape, in a document that has no key: a page of an API, NULL = none';
COMMENT ON COLUMN sophia.shapes.ignores_tombstones IS 'whether its tombstones are positions of a listing rather than deleted records';
COMMENT ON COLUMN sophia.shapes.kept_columns IS 'computed columns of array_table that a row of a new array takes over from the old one, NULL = none';
COMMENT ON COLUMN sophia.shapes.kept_while IS 'columns in which the old row must agree with the new one for that';
COMMENT ON COLUMN sophia.shapes.description IS 'what the shape is for';

CREATE TABLE sophia.table_columns (
  table_schema text NOT NULL,
  table_name text NOT NULL,
  ordinal integer NOT NULL,
  column_name text NOT NULL,
  column_type text NOT NULL,
  key_position integer,
  not_null boolean NOT NULL,
  column_default text,
  pointers text[],
  conversion text,
  may_widen boolean NOT NULL DEFAULT false,
  comment text NOT NULL,
  PRIMARY KEY (table_schema, table_name, column_name),
  UNIQUE (table_schema, table_name, ordinal)
);
COMMENT ON TABLE sophia.table_columns IS 'columns of the data tables, and where the ingest reads each from';
COMMENT ON COLUMN sophia.table_columns.table_schema IS 'schema of the data table';
COMMENT ON COLUMN sophia.table_columns.table_name IS 'name of the data table';
COMMENT ON COLUMN sophia.table_columns.ordinal IS 'place among the columns of the table; from 900 on what every raw table has';
COMMENT ON COLUMN sophia.table_columns.column_name IS 'name of the column';
COMMENT ON COLUMN sophia.table_columns.column_type IS 'SQL type of the column';
COMMENT ON COLUMN sophia.table_columns.key_position IS 'place in the primary key, NULL outside it';
COMMENT ON COLUMN sophia.table_columns.not_null IS 'whether the column is NOT NULL';
COMMENT ON COLUMN sophia.table_columns.column_default IS 'SQL expression of the default';
COMMENT ON COLUMN sophia.table_columns.pointers IS 'JSON pointers tried in order until a value is not null; within the element where a row is made from one';
COMMENT ON COLUMN sophia.table_columns.conversion IS 'how the ingest makes the column of the value; NULL where no value of the document fills it';
COMMENT ON COLUMN sophia.table_columns.may_widen IS 'whether the column may get a wider type: no key, not computed, and read by no transform';
COMMENT ON COLUMN sophia.table_columns.comment IS 'comment of the column';

-- Columns that came later or belong to tables of the user; of the same form, but state rather than definition.
CREATE TABLE sophia.fields (
  table_schema text NOT NULL,
  table_name text NOT NULL,
  column_name text NOT NULL,
  column_type text NOT NULL,
  pointers text[] NOT NULL,
  conversion text NOT NULL,
  origin text NOT NULL,
  added_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (table_schema, table_name, column_name)
);
COMMENT ON TABLE sophia.fields IS 'columns beyond those of sophia.table_columns that the ingest fills: added fields, columns of tables of the user, and columns that were widened';
COMMENT ON COLUMN sophia.fields.table_schema IS 'schema of the data table';
COMMENT ON COLUMN sophia.fields.table_name IS 'name of the data table';
COMMENT ON COLUMN sophia.fields.column_name IS 'name of the column';
COMMENT ON COLUMN sophia.fields.column_type IS 'SQL type of the column';
COMMENT ON COLUMN sophia.fields.pointers IS 'JSON pointers tried in order until a value is not null';
COMMENT ON COLUMN sophia.fields.conversion IS 'how the ingest makes the column of the value';
COMMENT ON COLUMN sophia.fields.origin IS 'what added the column: add_field, evolve or the shape of a table of the user; misfit: it was there, and was widened';
COMMENT ON COLUMN sophia.fields.added_at IS 'when the column was added';
SELECT pg_catalog.pg_extension_config_dump('sophia.fields', '');

GRANT SELECT ON sophia.shapes, sophia.table_columns TO PUBLIC;

INSERT INTO sophia.shapes
  (shape, target_schema, target_table, key, key_columns, reduce, array_pointer, array_table, description)
VALUES
  ('hubspot.contacts', 'hubspot_raw', 'contacts', '{/id}', '{id}', 'merge', NULL, NULL,
    'contacts of HubSpot'),
  ('hubspot.companies', 'hubspot_raw', 'companies', '{/id}', '{id}', 'merge', NULL, NULL,
    'companies of HubSpot'),
  ('hubspot.deals', 'hubspot_raw', 'deals', '{/id}', '{id}', 'merge', NULL, NULL,
    'deals of HubSpot'),
  ('hubspot.engagements', 'hubspot_raw', 'engagements', '{/id}', '{id}', 'merge', NULL, NULL,
    'calls, e-mails, meetings, notes and tasks of HubSpot'),
  ('hubspot.owners', 'hubspot_raw', 'owners', '{/id}', '{id}', 'lastWriteWins', NULL, NULL,
    'owners of HubSpot; their positional tombstones are ignored'),
  ('gong.calls', 'gong_raw', 'calls', '{/id}', '{id}', 'merge', '/parties', 'call_parties',
    'calls of Gong in basic and extensive form; parties go to call_parties'),
  ('gong.call_transcripts', 'gong_raw', 'call_transcripts', '{/callId}', '{call_id}', 'lastWriteWins', '/transcript', 'call_transcripts',
    'transcripts of Gong, one row a monologue; its sentiment stays while speaker and text do'),
  ('gong.users', 'gong_raw', 'users', '{/id}', '{id}', 'lastWriteWins', NULL, NULL,
    'users of Gong'),
  ('slack.users', 'slack_raw', 'users', '{/id}', '{id}', 'lastWriteWins', NULL, NULL,
    'users of Slack'),
  ('slack.channels', 'slack_raw', 'channels', '{/id}', '{id}', 'lastWriteWins', NULL, NULL,
    'channels of Slack'),
  ('slack.channel_members', 'slack_raw', 'channel_members', '{/channel_id,/member_id}', '{channel_id,member_id}', 'lastWriteWins', NULL, NULL,
    'members of the channels of Slack'),
  ('slack.messages', 'slack_raw', 'messages', '{/channel_id,/ts}', '{channel,ts}', 'merge', NULL, NULL,
    'messages of Slack; fed by channel_messages and by threads');

UPDATE sophia.shapes SET page_pointer = '/calls' WHERE shape = 'gong.calls';
UPDATE sophia.shapes SET page_pointer = '/callTranscripts' WHERE shape = 'gong.call_transcripts';
UPDATE sophia.shapes SET ignores_tombstones = true WHERE shape = 'hubspot.owners';
UPDATE sophia.shapes
  SET kept_columns = '{sentiment,sentiment_score,sentiment_model}', kept_while = '{speaker_id,text}'
  WHERE shape = 'gong.call_transcripts';

-- hubspot_raw.contacts
INSERT INTO sophia.table_columns
  (table_schema, table_name, ordinal, column_name, column_type, key_position, not_null, pointers, conversion, comment)
VALUES
  ('hubspot_raw', 'contacts', 1, 'id', 'text', 1, true, '{/id}', 'text',
    'HubSpot id of the contact'),
  ('hubspot_raw', 'contacts', 2, 'email', 'text', NULL, false, '{/properties/email}', 'text',
    'primary e-mail address as HubSpot holds it'),
  ('hubspot_raw', 'contacts', 3, 'additional_emails', 'text[]', NULL, false, '{/properties/hs_additional_emails}', 'list',
    'secondary e-mail addresses'),
  ('hubspot_raw', 'contacts', 4, 'firstname', 'text', NULL, false, '{/properties/firstname}', 'text',
    'first name'),
  ('hubspot_raw', 'contacts', 5, 'lastname', 'text', NULL, false, '{/properties/lastname}', 'text',
    'last name'),
  ('hubspot_raw', 'contacts', 6, 'company', 'text', NULL, false, '{/properties/company}', 'text',
    'company name as typed on the contact; the associated company may be named otherwise'),
  ('hubspot_raw', 'contacts', 7, 'jobtitle', 'text', NULL, false, '{/properties/jobtitle}', 'text',
    'job title'),
  ('hubspot_raw', 'contacts', 8, 'phone', 'text', NULL, false, '{/properties/phone}', 'text',
    'phone number as typed'),
  ('hubspot_raw', 'contacts', 9, 'mobilephone', 'text', NULL, false, '{/properties/mobilephone}', 'text',
    'mobile phone number as typed'),
  ('hubspot_raw', 'contacts', 10, 'phone_e164', 'text', NULL, false,
    '{/properties/hs_calculated_phone_number,/properties/phone,/properties/hs_calculated_mobile_number,'
    '/properties/mobilephone}', 'phone',
    'phone number in E.164 form'),
  ('hubspot_raw', 'contacts', 11, 'lifecyclestage', 'text', NULL, false, '{/properties/lifecyclestage}', 'text',
    'internal name of the lifecycle stage'),
  ('hubspot_raw', 'contacts', 12, 'hs_lead_status', 'text', NULL, false, '{/properties/hs_lead_status}', 'text',
    'lead status'),
  ('hubspot_raw', 'contacts', 13, 'associated_company_id', 'text', NULL, false, '{/properties/associatedcompanyid}', 'text',
    'HubSpot id of the primary company'),
  ('hubspot_raw', 'contacts', 14, 'owner_id', 'text', NULL, false, '{/properties/hubspot_owner_id}', 'text',
    'HubSpot id of the owner, as in owners.id'),
  ('hubspot_raw', 'contacts', 15, 'createdate', 'timestamptz', NULL, false, '{/properties/createdate,/createdAt}', 'timestamptz',
    'when the contact was created'),
  ('hubspot_raw', 'contacts', 16, 'lastmodifieddate', 'timestamptz', NULL, false, '{/properties/lastmodifieddate,/updatedAt}', 'timestamptz',
    'when the contact was last modified'),
  ('hubspot_raw', 'contacts', 17, 'merged_object_ids', 'text[]', NULL, false, '{/properties/hs_merged_object_ids}', 'list',
    'ids of the contacts that were merged into this one'),
  ('hubspot_raw', 'contacts', 18, 'calculated_merged_vids', 'text[]', NULL, false, '{/properties/hs_calculated_merged_vids}', 'list',
    'merged ids, each with the time of its merge, as HubSpot calculates them'),
  ('hubspot_raw', 'contacts', 19, 'merged_into', 'text', NULL, false, NULL, NULL,
    'computed: id of the contact that this one was merged into'),
  ('hubspot_raw', 'contacts', 20, 'company_ids', 'text[]', NULL, false, '{/companies}', 'list',
    'ids of the companies that the contact is or was associated with'),
  ('hubspot_raw', 'contacts', 21, 'archived', 'boolean', NULL, false, '{/archived}', 'boolean',
    'whether HubSpot archived the contact'),
  ('hubspot_raw', 'contacts', 22, 'url', 'text', NULL, false, '{/url}', 'text',
    'address of the contact in HubSpot');

-- hubspot_raw.companies
INSERT INTO sophia.table_columns
  (table_schema, table_name, ordinal, column_name, column_type, key_position, not_null, pointers, conversion, comment)
VALUES
  ('hubspot_raw', 'companies', 1, 'id', 'text', 1, true, '{/id}', 'text',
    'HubSpot id of the company'),
  ('hubspot_raw', 'companies', 2, 'name', 'text', NULL, false, '{/properties/name}', 'text',
    'name'),
  ('hubspot_raw', 'companies', 3, 'domain', 'text', NULL, false, '{/properties/domain}', 'text',
    'primary domain'),
  ('hubspot_raw', 'companies', 4, 'website', 'text', NULL, false, '{/properties/website}', 'text',
    'address of the website'),
  ('hubspot_raw', 'companies', 5, 'lifecyclestage', 'text', NULL, false, '{/properties/lifecyclestage}', 'text',
    'internal name of the lifecycle stage'),
  ('hubspot_raw', 'companies', 6, 'owner_id', 'text', NULL, false, '{/properties/hubspot_owner_id}', 'text',
    'HubSpot id of the owner, as in owners.id'),
  ('hubspot_raw', 'companies', 7, 'contact_ids', 'text[]', NULL, false, '{/contacts}', 'list',
    'ids of the contacts that the company is or was associated with; may be incomplete for large companies'),
  ('hubspot_raw', 'companies', 8, 'deal_ids', 'text[]', NULL, false, '{/deals}', 'list',
    'ids of the deals that the company is or was associated with'),
  ('hubspot_raw', 'companies', 9, 'createdate', 'timestamptz', NULL, false, '{/properties/createdate,/createdAt}', 'timestamptz',
    'when the company was created'),
  ('hubspot_raw', 'companies', 10, 'lastmodifieddate', 'timestamptz', NULL, false, '{/properties/hs_lastmodifieddate,/updatedAt}', 'timestamptz',
    'when the company was last modified'),
  ('hubspot_raw', 'companies', 11, 'archived', 'boolean', NULL, false, '{/archived}', 'boolean',
    'whether HubSpot archived the company'),
  ('hubspot_raw', 'companies', 12, 'url', 'text', NULL, false, '{/url}', 'text',
    'address of the company in HubSpot');

-- hubspot_raw.deals
INSERT INTO sophia.table_columns
  (table_schema, table_name, ordinal, column_name, column_type, key_position, not_null, pointers, conversion, comment)
VALUES
  ('hubspot_raw', 'deals', 1, 'id', 'text', 1, true, '{/id}', 'text',
    'HubSpot id of the deal'),
  ('hubspot_raw', 'deals', 2, 'dealname', 'text', NULL, false, '{/properties/dealname}', 'text',
    'name'),
  ('hubspot_raw', 'deals', 3, 'amount', 'numeric', NULL, false, '{/properties/amount}', 'numeric',
    'amount in the currency of the deal'),
  ('hubspot_raw', 'deals', 4, 'dealstage', 'text', NULL, false, '{/properties/dealstage}', 'text',
    'internal name of the stage'),
  ('hubspot_raw', 'deals', 5, 'pipeline', 'text', NULL, false, '{/properties/pipeline}', 'text',
    'internal name of the pipeline'),
  ('hubspot_raw', 'deals', 6, 'closedate', 'timestamptz', NULL, false, '{/properties/closedate}', 'timestamptz',
    'when the deal was or is expected to be closed'),
  ('hubspot_raw', 'deals', 7, 'owner_id', 'text', NULL, false, '{/properties/hubspot_owner_id}', 'text',
    'HubSpot id of the owner, as in owners.id'),
  ('hubspot_raw', 'deals', 8, 'contact_ids', 'text[]', NULL, false, '{/contacts}', 'list',
    'ids of the contacts that the deal is or was associated with'),
  ('hubspot_raw', 'deals', 9, 'company_ids', 'text[]', NULL, false, '{/companies}', 'list',
    'ids of the companies that the deal is or was associated with'),
  ('hubspot_raw', 'deals', 10, 'is_closed_won', 'boolean', NULL, false, '{/properties/hs_is_closed_won}', 'boolean',
    'whether the deal was won'),
  ('hubspot_raw', 'deals', 11, 'createdate', 'timestamptz', NULL, false, '{/properties/createdate,/createdAt}', 'timestamptz',
    'when the deal was created'),
  ('hubspot_raw', 'deals', 12, 'lastmodifieddate', 'timestamptz', NULL, false, '{/properties/hs_lastmodifieddate,/updatedAt}', 'timestamptz',
    'when the deal was last modified'),
  ('hubspot_raw', 'deals', 13, 'archived', 'boolean', NULL, false, '{/archived}', 'boolean',
    'whether HubSpot archived the deal'),
  ('hubspot_raw', 'deals', 14, 'url', 'text', NULL, false, '{/url}', 'text',
    'address of the deal in HubSpot');

-- hubspot_raw.engagements
INSERT INTO sophia.table_columns
  (table_schema, table_name, ordinal, column_name, column_type, key_position, not_null, pointers, conversion, comment)
VALUES
  ('hubspot_raw', 'engagements', 1, 'id', 'text', 1, true, '{/id}', 'text',
    'HubSpot id of the engagement'),
  ('hubspot_raw', 'engagements', 2, 'engagement_type', 'text', NULL, false, '{/properties/hs_engagement_type}', 'text',
    'CALL, EMAIL, INCOMING_EMAIL, FORWARDED_EMAIL, MEETING, NOTE, TASK or a kind that HubSpot added later'),
  ('hubspot_raw', 'engagements', 3, 'occurred_at', 'timestamptz', NULL, false,
    '{/properties/hs_meeting_start_time,/properties/hs_timestamp,/properties/hs_task_completion_date}', 'timestamptz',
    'when it happened; for a task, when it is due'),
  ('hubspot_raw', 'engagements', 4, 'ended_at', 'timestamptz', NULL, false, '{/properties/hs_meeting_end_time}', 'timestamptz',
    'when a meeting ended'),
  ('hubspot_raw', 'engagements', 5, 'subject', 'text', NULL, false,
    '{/properties/hs_call_title,/properties/hs_email_subject,/properties/hs_meeting_title,'
    '/properties/hs_task_subject}', 'text',
    'title or subject'),
  ('hubspot_raw', 'engagements', 6, 'body_html', 'text', NULL, false,
    '{/properties/hs_call_body,/properties/hs_email_html,/properties/hs_meeting_body,/properties/hs_note_body,'
    '/properties/hs_task_body,/properties/hs_internal_meeting_notes}', 'text',
    'body as HubSpot holds it, mostly HTML'),
  ('hubspot_raw', 'engagements', 7, 'body_text', 'text', NULL, false,
    '{/properties/hs_call_body,/properties/hs_email_html,/properties/hs_meeting_body,/properties/hs_note_body,'
    '/properties/hs_task_body,/properties/hs_internal_meeting_notes,/properties/hs_email_text}', 'html',
    'body as plain text'),
  ('hubspot_raw', 'engagements', 8, 'body_preview', 'text', NULL, false, '{/properties/hs_body_preview}', 'text',
    'first words of the body, as HubSpot shows them'),
  ('hubspot_raw', 'engagements', 9, 'direction', 'text', NULL, false, '{/properties/hs_call_direction,/properties/hs_email_direction}', 'text',
    'direction of a call or an e-mail, in HubSpot''s words'),
  ('hubspot_raw', 'engagements', 10, 'duration_ms', 'bigint', NULL, false, '{/properties/hs_call_duration}', 'bigint',
    'duration of a call in milliseconds'),
  ('hubspot_raw', 'engagements', 11, 'from_email', 'text', NULL, false, '{/properties/hs_email_from_email}', 'text',
    'sender of an e-mail'),
  ('hubspot_raw', 'engagements', 12, 'to_emails', 'text[]', NULL, false, '{/properties/hs_email_to_email}', 'list',
    'receivers of an e-mail'),
  ('hubspot_raw', 'engagements', 13, 'cc_emails', 'text[]', NULL, false, '{/properties/hs_email_cc_email}', 'list',
    'receivers of a copy'),
  ('hubspot_raw', 'engagements', 14, 'bcc_emails', 'text[]', NULL, false, '{/properties/hs_email_bcc_email}', 'list',
    'receivers of a blind copy'),
  ('hubspot_raw', 'engagements', 15, 'from_number', 'text', NULL, false, '{/properties/hs_call_from_number}', 'text',
    'number that called'),
  ('hubspot_raw', 'engagements', 16, 'to_number', 'text', NULL, false, '{/properties/hs_call_to_number}', 'text',
    'number that was called'),
  ('hubspot_raw', 'engagements', 17, 'status', 'text', NULL, false,
    '{/properties/hs_call_status,/properties/hs_email_status,/properties/hs_meeting_outcome,'
    '/properties/hs_task_status}', 'text',
    'status of a call, e-mail or task, or the outcome of a meeting'),
  ('hubspot_raw', 'engagements', 18, 'thread_id', 'text', NULL, false, '{/properties/hs_email_thread_id}', 'text',
    'thread of an e-mail'),
  ('hubspot_raw', 'engagements', 19, 'ical_uid', 'text', NULL, false, '{/properties/hs_i_cal_uid}', 'text',
    'iCalendar uid of a meeting'),
  ('hubspot_raw', 'engagements', 20, 'external_url', 'text', NULL, false, '{/properties/hs_meeting_external_url}', 'text',
    'address of a meeting in its calendar'),
  ('hubspot_raw', 'engagements', 21, 'location', 'text', NULL, false, '{/properties/hs_meeting_location}', 'text',
    'place of a meeting'),
  ('hubspot_raw', 'engagements', 22, 'owner_id', 'text', NULL, false, '{/properties/hubspot_owner_id}', 'text',
    'HubSpot id of the owner, as in owners.id'),
  ('hubspot_raw', 'engagements', 23, 'contact_ids', 'text[]', NULL, false, '{/contacts}', 'list',
    'ids of the contacts that it is or was associated with'),
  ('hubspot_raw', 'engagements', 24, 'company_ids', 'text[]', NULL, false, '{/companies}', 'list',
    'ids of the companies that it is or was associated with'),
  ('hubspot_raw', 'engagements', 25, 'deal_ids', 'text[]', NULL, false, '{/deals}', 'list',
    'ids of the deals that it is or was associated with'),
  ('hubspot_raw', 'engagements', 26, 'ticket_ids', 'text[]', NULL, false, '{/tickets}', 'list',
    'ids of the tickets that it is or was associated with'),
  ('hubspot_raw', 'engagements', 27, 'createdate', 'timestamptz', NULL, false, '{/properties/hs_createdate,/createdAt}', 'timestamptz',
    'when the engagement was created'),
  ('hubspot_raw', 'engagements', 28, 'lastmodifieddate', 'timestamptz', NULL, false, '{/properties/hs_lastmodifieddate,/updatedAt}', 'timestamptz',
    'when the engagement was last modified'),
  ('hubspot_raw', 'engagements', 29, 'archived', 'boolean', NULL, false, '{/archived}', 'boolean',
    'whether HubSpot archived the engagement'),
  ('hubspot_raw', 'engagements', 30, 'url', 'text', NULL, false, '{/url}', 'text',
    'address of the engagement in HubSpot');

-- hubspot_raw.owners
INSERT INTO sophia.table_columns
  (table_schema, table_name, ordinal, column_name, column_type, key_position, not_null, pointers, conversion, comment)
VALUES
  ('hubspot_raw', 'owners', 1, 'id', 'text', 1, true, '{/id}', 'text',
    'HubSpot id of the owner, as in owner_id elsewhere'),
  ('hubspot_raw', 'owners', 2, 'email', 'text', NULL, false, '{/email}', 'text',
    'e-mail address'),
  ('hubspot_raw', 'owners', 3, 'first_name', 'text', NULL, false, '{/firstName}', 'text',
    'first name'),
  ('hubspot_raw', 'owners', 4, 'last_name', 'text', NULL, false, '{/lastName}', 'text',
    'last name'),
  ('hubspot_raw', 'owners', 5, 'user_id', 'text', NULL, false, '{/userId}', 'text',
    'HubSpot id of the owner as a user'),
  ('hubspot_raw', 'owners', 6, 'archived', 'boolean', NULL, false, '{/archived}', 'boolean',
    'whether HubSpot archived the owner'),
  ('hubspot_raw', 'owners', 7, 'created_at', 'timestamptz', NULL, false, '{/createdAt}', 'timestamptz',
    'when the owner was created'),
  ('hubspot_raw', 'owners', 8, 'updated_at', 'timestamptz', NULL, false, '{/updatedAt}', 'timestamptz',
    'when the owner was last modified');

-- gong_raw.calls
INSERT INTO sophia.table_columns
  (table_schema, table_name, ordinal, column_name, column_type, key_position, not_null, pointers, conversion, comment)
VALUES
  ('gong_raw', 'calls', 1, 'id', 'text', 1, true, '{/id,/metaData/id}', 'text',
    'Gong id of the call, up to 20 digits'),
  ('gong_raw', 'calls', 2, 'title', 'text', NULL, false, '{/title,/metaData/title}', 'text',
    'title'),
  ('gong_raw', 'calls', 3, 'url', 'text', NULL, false, '{/url,/metaData/url}', 'text',
    'address of the call in Gong'),
  ('gong_raw', 'calls', 4, 'started', 'timestamptz', NULL, false, '{/started,/metaData/started}', 'epoch',
    'when the call started'),
  ('gong_raw', 'calls', 5, 'scheduled', 'timestamptz', NULL, false, '{/scheduled,/metaData/scheduled}', 'epoch',
    'when the call was to start'),
  ('gong_raw', 'calls', 6, 'duration_s', 'integer', NULL, false, '{/duration,/metaData/duration}', 'integer',
    'duration in seconds'),
  ('gong_raw', 'calls', 7, 'direction', 'text', NULL, false, '{/direction,/metaData/direction}', 'text',
    'Inbound, Outbound, Conference or Unknown'),
  ('gong_raw', 'calls', 8, 'scope', 'text', NULL, false, '{/scope,/metaData/scope}', 'text',
    'Internal, External or Unknown'),
  ('gong_raw', 'calls', 9, 'media', 'text', NULL, false, '{/media,/metaData/media}', 'text',
    'Video or Audio'),
  ('gong_raw', 'calls', 10, 'system', 'text', NULL, false, '{/system,/metaData/system}', 'text',
    'system that held the call, such as Zoom'),
  ('gong_raw', 'calls', 11, 'language', 'text', NULL, false, '{/language,/metaData/language}', 'text',
    'language of the call, mostly as ISO 639-2/B'),
  ('gong_raw', 'calls', 12, 'primary_user_id', 'text', NULL, false, '{/primaryUserId,/metaData/primaryUserId}', 'text',
    'Gong id of the host, as in users.id'),
  ('gong_raw', 'calls', 13, 'workspace_id', 'text', NULL, false, '{/workspaceId,/metaData/workspaceId}', 'text',
    'Gong id of the workspace'),
  ('gong_raw', 'calls', 14, 'is_private', 'boolean', NULL, false, '{/isPrivate,/metaData/isPrivate}', 'boolean',
    'whether the call is private: its contents stay out of the timeline'),
  ('gong_raw', 'calls', 15, 'meeting_url', 'text', NULL, false, '{/meetingUrl,/metaData/meetingUrl}', 'text',
    'address of the web conference'),
  ('gong_raw', 'calls', 16, 'calendar_event_id', 'text', NULL, false, '{/calendarEventId,/metaData/calendarEventId}', 'text',
    'id of the event in the calendar'),
  ('gong_raw', 'calls', 17, 'purpose', 'text', NULL, false, '{/purpose,/metaData/purpose}', 'text',
    'purpose'),
  ('gong_raw', 'calls', 18, 'has_parties', 'boolean', NULL, false, '{/parties}', 'exists',
    'whether the parties of the call were received'),
  ('gong_raw', 'calls', 19, 'brief', 'text', NULL, false, '{/content/brief}', 'text',
    'Gong''s summary of the call'),
  ('gong_raw', 'calls', 20, 'topics', 'jsonb', NULL, false, '{/content/topics}', 'jsonb',
    'topics, each with its duration in seconds'),
  ('gong_raw', 'calls', 21, 'trackers', 'jsonb', NULL, false, '{/content/trackers}', 'jsonb',
    'trackers with their occurrences');

-- gong_raw.call_parties
INSERT INTO sophia.table_columns
  (table_schema, table_name, ordinal, column_name, column_type, key_position, not_null, pointers, conversion, comment)
VALUES
  ('gong_raw', 'call_parties', 1, 'call_id', 'text', 1, true, NULL, 'parent_key',
    'Gong id of the call'),
  ('gong_raw', 'call_parties', 2, 'party_id', 'text', 2, true, '{/id}', 'party_id',
    'id of the party within the call; # and its ordinal where Gong gives none'),
  ('gong_raw', 'call_parties', 3, 'ordinal', 'integer', NULL, true, NULL, 'ordinal',
    'position in the document, from 1'),
  ('gong_raw', 'call_parties', 4, 'speaker_id', 'text', NULL, false, '{/speakerId}', 'text',
    'id by which the transcript names the party; absent where the party did not speak'),
  ('gong_raw', 'call_parties', 5, 'user_id', 'text', NULL, false, '{/userId}', 'text',
    'Gong id of a colleague, as in users.id'),
  ('gong_raw', 'call_parties', 6, 'email', 'text', NULL, false, '{/emailAddress}', 'text',
    'e-mail address as Gong holds it'),
  ('gong_raw', 'call_parties', 7, 'email_norm', 'text', NULL, false, '{/emailAddress}', 'email',
    'normalised e-mail address'),
  ('gong_raw', 'call_parties', 8, 'name', 'text', NULL, false, '{/name}', 'text',
    'name'),
  ('gong_raw', 'call_parties', 9, 'title', 'text', NULL, false, '{/title}', 'text',
    'job title'),
  ('gong_raw', 'call_parties', 10, 'phone', 'text', NULL, false, '{/phoneNumber}', 'text',
    'phone number as Gong holds it'),
  ('gong_raw', 'call_parties', 11, 'affiliation', 'text', NULL, false, '{/affiliation}', 'text',
    'Internal, External or Unknown'),
  ('gong_raw', 'call_parties', 12, 'methods', 'text[]', NULL, false, '{/methods}', 'list',
    'how the party belongs to the call: Invitee, Attendee'),
  ('gong_raw', 'call_parties', 13, 'hubspot_contact_id', 'text', NULL, false, '{/context}', 'hubspot_contact',
    'HubSpot id of the contact that Gong links the party to');

-- gong_raw.call_transcripts
INSERT INTO sophia.table_columns
  (table_schema, table_name, ordinal, column_name, column_type, key_position, not_null, pointers, conversion, comment)
VALUES
  ('gong_raw', 'call_transcripts', 1, 'call_id', 'text', 1, true, NULL, 'parent_key',
    'Gong id of the call'),
  ('gong_raw', 'call_transcripts', 2, 'seq', 'integer', 2, true, NULL, 'ordinal',
    'position of the monologue in the transcript, from 1'),
  ('gong_raw', 'call_transcripts', 3, 'speaker_id', 'text', NULL, false, '{/speakerId}', 'text',
    'who speaks, as in call_parties.speaker_id'),
  ('gong_raw', 'call_transcripts', 4, 'topic', 'text', NULL, false, '{/topic}', 'text',
    'topic that Gong assigned'),
  ('gong_raw', 'call_transcripts', 5, 'start_ms', 'integer', NULL, false, '{/sentences}', 'sentences_start',
    'start of the first sentence, in milliseconds from the start of the call'),
  ('gong_raw', 'call_transcripts', 6, 'end_ms', 'integer', NULL, false, '{/sentences}', 'sentences_end',
    'end of the last sentence, in milliseconds from the start of the call'),
  ('gong_raw', 'call_transcripts', 7, 'text', 'text', NULL, false, '{/sentences}', 'sentences',
    'what is said'),
  ('gong_raw', 'call_transcripts', 8, 'party_id', 'text', NULL, false, NULL, NULL,
    'computed: the party that speaks, as in call_parties.party_id'),
  ('gong_raw', 'call_transcripts', 9, 'sentiment', 'text', NULL, false, NULL, NULL,
    'computed: sentiment label, NULL until scored'),
  ('gong_raw', 'call_transcripts', 10, 'sentiment_score', 'real', NULL, false, NULL, NULL,
    'computed: sentiment from -1 (negative) to 1 (positive), NULL until scored'),
  ('gong_raw', 'call_transcripts', 11, 'sentiment_model', 'text', NULL, false, NULL, NULL,
    'computed: the model that scored the sentiment');

-- gong_raw.users
INSERT INTO sophia.table_columns
  (table_schema, table_name, ordinal, column_name, column_type, key_position, not_null, pointers, conversion, comment)
VALUES
  ('gong_raw', 'users', 1, 'id', 'text', 1, true, '{/id}', 'text',
    'Gong id of the user'),
  ('gong_raw', 'users', 2, 'email', 'text', NULL, false, '{/emailAddress}', 'text',
    'e-mail address'),
  ('gong_raw', 'users', 3, 'email_aliases', 'text[]', NULL, false, '{/emailAliases}', 'list',
    'further e-mail addresses'),
  ('gong_raw', 'users', 4, 'trusted_email', 'text', NULL, false, '{/trustedEmailAddress}', 'text',
    'e-mail address that Gong trusts'),
  ('gong_raw', 'users', 5, 'first_name', 'text', NULL, false, '{/firstName}', 'text',
    'first name'),
  ('gong_raw', 'users', 6, 'last_name', 'text', NULL, false, '{/lastName}', 'text',
    'last name'),
  ('gong_raw', 'users', 7, 'title', 'text', NULL, false, '{/title}', 'text',
    'job title'),
  ('gong_raw', 'users', 8, 'phone', 'text', NULL, false, '{/phoneNumber}', 'text',
    'phone number as Gong holds it'),
  ('gong_raw', 'users', 9, 'manager_id', 'text', NULL, false, '{/managerId}', 'text',
    'Gong id of the manager'),
  ('gong_raw', 'users', 10, 'active', 'boolean', NULL, false, '{/active}', 'boolean',
    'whether the user is active'),
  ('gong_raw', 'users', 11, 'created', 'timestamptz', NULL, false, '{/created}', 'timestamptz',
    'when the user was created');

-- slack_raw.users
INSERT INTO sophia.table_columns
  (table_schema, table_name, ordinal, column_name, column_type, key_position, not_null, pointers, conversion, comment)
VALUES
  ('slack_raw', 'users', 1, 'id', 'text', 1, true, '{/id}', 'text',
    'Slack id of the user'),
  ('slack_raw', 'users', 2, 'team_id', 'text', NULL, false, '{/team_id}', 'text',
    'Slack id of the workspace'),
  ('slack_raw', 'users', 3, 'name', 'text', NULL, false, '{/name}', 'text',
    'handle'),
  ('slack_raw', 'users', 4, 'real_name', 'text', NULL, false, '{/real_name,/profile/real_name}', 'text',
    'full name'),
  ('slack_raw', 'users', 5, 'display_name', 'text', NULL, false, '{/profile/display_name}', 'text',
    'name that the user chose to be shown; not an identifier'),
  ('slack_raw', 'users', 6, 'first_name', 'text', NULL, false, '{/profile/first_name}', 'text',
    'first name'),
  ('slack_raw', 'users', 7, 'last_name', 'text', NULL, false, '{/profile/last_name}', 'text',
    'last name'),
  ('slack_raw', 'users', 8, 'email', 'text', NULL, false, '{/profile/email}', 'text',
    'e-mail address; absent unless the token has the scope users:read.email'),
  ('slack_raw', 'users', 9, 'title', 'text', NULL, false, '{/profile/title}', 'text',
    'job title'),
  ('slack_raw', 'users', 10, 'phone', 'text', NULL, false, '{/profile/phone}', 'text',
    'phone number as typed'),
  ('slack_raw', 'users', 11, 'tz', 'text', NULL, false, '{/tz}', 'text',
    'time zone'),
  ('slack_raw', 'users', 12, 'is_bot', 'boolean', NULL, false, '{/is_bot}', 'boolean',
    'whether the user is a bot'),
  ('slack_raw', 'users', 13, 'is_app_user', 'boolean', NULL, false, '{/is_app_user}', 'boolean',
    'whether the user is an app'),
  ('slack_raw', 'users', 14, 'is_restricted', 'boolean', NULL, false, '{/is_restricted}', 'boolean',
    'whether the user is a guest'),
  ('slack_raw', 'users', 15, 'deleted', 'boolean', NULL, false, '{/deleted}', 'boolean',
    'whether the user was deactivated'),
  ('slack_raw', 'users', 16, 'updated_at', 'timestamptz', NULL, false, '{/updated}', 'epoch',
    'when the user was last modified');

-- slack_raw.channels
INSERT INTO sophia.table_columns
  (table_schema, table_name, ordinal, column_name, column_type, key_position, not_null, pointers, conversion, comment)
VALUES
  ('slack_raw', 'channels', 1, 'id', 'text', 1, true, '{/id}', 'text',
    'Slack id of the channel'),
  ('slack_raw', 'channels', 2, 'name', 'text', NULL, false, '{/name}', 'text',
    'name'),
  ('slack_raw', 'channels', 3, 'is_private', 'boolean', NULL, false, '{/is_private}', 'boolean',
    'whether the channel is private'),
  ('slack_raw', 'channels', 4, 'is_archived', 'boolean', NULL, false, '{/is_archived}', 'boolean',
    'whether the channel is archived'),
  ('slack_raw', 'channels', 5, 'is_ext_shared', 'boolean', NULL, false, '{/is_ext_shared}', 'boolean',
    'whether the channel is shared with another organisation'),
  ('slack_raw', 'channels', 6, 'topic', 'text', NULL, false, '{/topic/value}', 'text',
    'topic'),
  ('slack_raw', 'channels', 7, 'purpose', 'text', NULL, false, '{/purpose/value}', 'text',
    'purpose'),
  ('slack_raw', 'channels', 8, 'created_at', 'timestamptz', NULL, false, '{/created}', 'epoch',
    'when the channel was created'),
  ('slack_raw', 'channels', 9, 'updated_at', 'timestamptz', NULL, false, '{/updated}', 'epoch',
    'when the channel was last modified'),
  ('slack_raw', 'channels', 10, 'num_members', 'integer', NULL, false, '{/num_members}', 'integer',
    'number of members');

-- slack_raw.channel_members
INSERT INTO sophia.table_columns
  (table_schema, table_name, ordinal, column_name, column_type, key_position, not_null, pointers, conversion, comment)
VALUES
  ('slack_raw', 'channel_members', 1, 'channel_id', 'text', 1, true, '{/channel_id}', 'text',
    'Slack id of the channel'),
  ('slack_raw', 'channel_members', 2, 'member_id', 'text', 2, true, '{/member_id}', 'text',
    'Slack id of the member, as in users.id; departed members remain'),
  ('slack_raw', 'channel_members', 3, 'last_seen_at', 'timestamptz', NULL, false, NULL, 'published',
    'when the member was last listed; one that left is not listed any more');

-- slack_raw.messages
INSERT INTO sophia.table_columns
  (table_schema, table_name, ordinal, column_name, column_type, key_position, not_null, pointers, conversion, comment)
VALUES
  ('slack_raw', 'messages', 1, 'channel', 'text', 1, true, '{/channel_id}', 'text',
    'Slack id of the channel'),
  ('slack_raw', 'messages', 2, 'ts', 'text', 2, true, '{/ts}', 'text',
    'Slack''s time stamp of the message, its id within the channel'),
  ('slack_raw', 'messages', 3, 'user_id', 'text', NULL, false, '{/user}', 'text',
    'Slack id of the author, absent for some bots'),
  ('slack_raw', 'messages', 4, 'text', 'text', NULL, false, '{/text}', 'text',
    'text with Slack''s markup'),
  ('slack_raw', 'messages', 5, 'type', 'text', NULL, false, '{/type}', 'text',
    'type'),
  ('slack_raw', 'messages', 6, 'subtype', 'text', NULL, false, '{/subtype}', 'text',
    'subtype, such as channel_join; absent for an ordinary message'),
  ('slack_raw', 'messages', 7, 'thread_ts', 'text', NULL, false, '{/thread_ts}', 'text',
    'ts of the message that started the thread'),
  ('slack_raw', 'messages', 8, 'is_reply', 'boolean', NULL, false, '{/thread_ts,/ts}', 'is_reply',
    'whether the message answers another in its thread'),
  ('slack_raw', 'messages', 9, 'sent_at', 'timestamptz', NULL, false, '{/ts}', 'epoch',
    'when the message was sent'),
  ('slack_raw', 'messages', 10, 'reply_count', 'integer', NULL, false, '{/reply_count}', 'integer',
    'number of replies in the thread that the message started'),
  ('slack_raw', 'messages', 11, 'bot_id', 'text', NULL, false, '{/bot_id}', 'text',
    'Slack id of the bot that wrote the message'),
  ('slack_raw', 'messages', 12, 'username', 'text', NULL, false, '{/username}', 'text',
    'name that a bot wrote under'),
  ('slack_raw', 'messages', 13, 'team', 'text', NULL, false, '{/team}', 'text',
    'Slack id of the author''s workspace'),
  ('slack_raw', 'messages', 14, 'permalink', 'text', NULL, false, '{/permalink}', 'text',
    'address of the message in Slack'),
  ('slack_raw', 'messages', 15, 'reactions', 'jsonb', NULL, false, '{/reactions}', 'jsonb',
    'reactions with their users'),
  ('slack_raw', 'messages', 16, 'from_stream', 'text', NULL, false, NULL, 'collection',
    'collection that the last document applied came from: channel_messages or threads');

-- What every raw table carries after its own columns.  The ingest writes these itself, but source_updated_at, which is
-- read from the document where its source tells.
INSERT INTO sophia.table_columns
  (table_schema, table_name, ordinal, column_name, column_type, not_null, column_default, comment)
SELECT t.table_schema, t.table_name, c.*
FROM (SELECT DISTINCT table_schema, table_name FROM sophia.table_columns) AS t
CROSS JOIN (VALUES
  (900, 'doc', 'jsonb', true, NULL,
    'the whole document, reduced, with the _meta of the last document applied; of a row made from an element, that element'),
  (901, 'source_updated_at', 'timestamptz', false, NULL, 'when the source last modified the record, where it tells'),
  (902, 'source_published_at', 'timestamptz', false, NULL, 'when the last document applied was published, from its uuid'),
  (903, 'ingested_at', 'timestamptz', true, 'now()', 'when the row was last written'),
  (904, 'is_deleted', 'boolean', true, 'false', 'whether the last document applied was a tombstone'),
  (905, 'source_clock', 'bigint', false, NULL,
    'clock of the last document applied, an unsigned 64-bit value kept in the bits of a bigint'),
  (906, 'source_journal', 'text', false, NULL, 'journal of the last document applied; NULL where the row came another way'),
  (907, 'source_offset', 'bigint', false, NULL, 'offset of the last document applied in its journal'),
  (908, 'changed_xid', 'xid8', true, 'pg_current_xact_id()', 'transaction that last wrote the row, for exact cursors'))
  AS c (ordinal, column_name, column_type, not_null, column_default, comment);

UPDATE sophia.table_columns AS c
SET pointers = u.pointers::text[], conversion = u.conversion
FROM (VALUES
  ('hubspot_raw', 'contacts', '{/properties/lastmodifieddate,/updatedAt}', 'timestamptz'),
  ('hubspot_raw', 'companies', '{/properties/hs_lastmodifieddate,/updatedAt}', 'timestamptz'),
  ('hubspot_raw', 'deals', '{/properties/hs_lastmodifieddate,/updatedAt}', 'timestamptz'),
  ('hubspot_raw', 'engagements', '{/properties/hs_lastmodifieddate,/updatedAt}', 'timestamptz'),
  ('hubspot_raw', 'owners', '{/updatedAt}', 'timestamptz'),
  ('slack_raw', 'users', '{/updated}', 'epoch'),
  ('slack_raw', 'channels', '{/updated}', 'epoch'),
  ('slack_raw', 'messages', '{/edited/ts,/ts}', 'epoch'))
  AS u (table_schema, table_name, pointers, conversion)
WHERE c.table_schema = u.table_schema AND c.table_name = u.table_name AND c.column_name = 'source_updated_at';

-- processed_data.unified_contacts: written by refresh
INSERT INTO sophia.table_columns
  (table_schema, table_name, ordinal, column_name, column_type, key_position, not_null, column_default, comment)
VALUES
  ('processed_data', 'unified_contacts', 1, 'id', 'text', 1, true, NULL,
    'hubspot_, gong_ or slack_ and its id there'),
  ('processed_data', 'unified_contacts', 2, 'source_system', 'text', NULL, true, NULL,
    'hubspot, gong or slack'),
  ('processed_data', 'unified_contacts', 3, 'source_id', 'text', NULL, true, NULL,
    'id of the record in its system'),
  ('processed_data', 'unified_contacts', 4, 'email', 'text', NULL, false, NULL,
    'primary e-mail address as the system holds it'),
  ('processed_data', 'unified_contacts', 5, 'first_name', 'text', NULL, false, NULL,
    'first name'),
  ('processed_data', 'unified_contacts', 6, 'last_name', 'text', NULL, false, NULL,
    'last name'),
  ('processed_data', 'unified_contacts', 7, 'full_name', 'text', NULL, false, NULL,
    'full name'),
  ('processed_data', 'unified_contacts', 8, 'company_name', 'text', NULL, false, NULL,
    'name of the company'),
  ('processed_data', 'unified_contacts', 9, 'job_title', 'text', NULL, false, NULL,
    'job title'),
  ('processed_data', 'unified_contacts', 10, 'phone', 'text', NULL, false, NULL,
    'phone number as the system holds it'),
  ('processed_data', 'unified_contacts', 11, 'created_at', 'timestamptz', NULL, false, NULL,
    'when the record was created in its system'),
  ('processed_data', 'unified_contacts', 12, 'updated_at', 'timestamptz', NULL, false, NULL,
    'when the record was last modified in its system'),
  ('processed_data', 'unified_contacts', 13, 'email_norm', 'text', NULL, false, NULL,
    'normalised primary e-mail address'),
  ('processed_data', 'unified_contacts', 14, 'email_domain', 'text', NULL, false, NULL,
    'domain of the normalised e-mail address'),
  ('processed_data', 'unified_contacts', 15, 'phone_e164', 'text', NULL, false, NULL,
    'phone number in E.164 form'),
  ('processed_data', 'unified_contacts', 16, 'all_emails', 'text[]', NULL, false, NULL,
    'every normalised e-mail address of the record'),
  ('processed_data', 'unified_contacts', 17, 'identity_id', 'bigint', NULL, false, NULL,
    'the person that the record belongs to'),
  ('processed_data', 'unified_contacts', 18, 'is_internal', 'boolean', NULL, true, 'false',
    'whether the record is a colleague'),
  ('processed_data', 'unified_contacts', 19, 'is_bot', 'boolean', NULL, true, 'false',
    'whether the record is not a human'),
  ('processed_data', 'unified_contacts', 20, 'is_deleted', 'boolean', NULL, true, 'false',
    'whether the record was deleted or deactivated in its system'),
  ('processed_data', 'unified_contacts', 21, 'owner_id', 'text', NULL, false, NULL,
    'id of the owner in its system'),
  ('processed_data', 'unified_contacts', 22, 'lifecycle_stage', 'text', NULL, false, NULL,
    'lifecycle stage in its system'),
  ('processed_data', 'unified_contacts', 23, 'source_url', 'text', NULL, false, NULL,
    'address of the record in its system'),
  ('processed_data', 'unified_contacts', 24, 'source_updated_at', 'timestamptz', NULL, false, NULL,
    'when the system last modified the document that the row was made from'),
  ('processed_data', 'unified_contacts', 25, 'doc_hash', 'bytea', NULL, false, NULL,
    'hash of the source values that the row was made from'),
  ('processed_data', 'unified_contacts', 26, 'first_seen_at', 'timestamptz', NULL, false, NULL,
    'time of the first interaction'),
  ('processed_data', 'unified_contacts', 27, 'last_seen_at', 'timestamptz', NULL, false, NULL,
    'time of the last interaction'),
  ('processed_data', 'unified_contacts', 28, 'merged_into', 'text', NULL, false, NULL,
    'the contact that took the place of this one; empty for HubSpot, whose merged-away contacts have no row');

-- processed_data.interaction_timeline: written by refresh
INSERT INTO sophia.table_columns
  (table_schema, table_name, ordinal, column_name, column_type, key_position, not_null, column_default, comment)
VALUES
  ('processed_data', 'interaction_timeline', 1, 'id', 'text', 1, true, NULL,
    'hubspot_, gong_ or slack_ and its id there'),
  ('processed_data', 'interaction_timeline', 2, 'source_system', 'text', NULL, true, NULL,
    'hubspot, gong or slack'),
  ('processed_data', 'interaction_timeline', 3, 'source_id', 'text', NULL, true, NULL,
    'id of the interaction in its system'),
  ('processed_data', 'interaction_timeline', 4, 'interaction_type', 'text', NULL, true, NULL,
    'call, email, meeting, note, task, message or other'),
  ('processed_data', 'interaction_timeline', 5, 'occurred_at', 'timestamptz', NULL, false, NULL,
    'when it happened'),
  ('processed_data', 'interaction_timeline', 6, 'ended_at', 'timestamptz', NULL, false, NULL,
    'when it ended'),
  ('processed_data', 'interaction_timeline', 7, 'duration_seconds', 'integer', NULL, false, NULL,
    'how long it took, in seconds'),
  ('processed_data', 'interaction_timeline', 8, 'direction', 'text', NULL, false, NULL,
    'inbound, outbound, internal, conference or unknown'),
  ('processed_data', 'interaction_timeline', 9, 'channel', 'text', NULL, false, NULL,
    'email, phone, meeting or crm; the system of a Gong call; the id of a Slack channel'),
  ('processed_data', 'interaction_timeline', 10, 'channel_name', 'text', NULL, false, NULL,
    'name of a Slack channel'),
  ('processed_data', 'interaction_timeline', 11, 'thread_key', 'text', NULL, false, NULL,
    'what interactions of one conversation share'),
  ('processed_data', 'interaction_timeline', 12, 'subject', 'text', NULL, false, NULL,
    'title or subject'),
  ('processed_data', 'interaction_timeline', 13, 'body', 'text', NULL, false, NULL,
    'plain text; NULL where the interaction is private'),
  ('processed_data', 'interaction_timeline', 14, 'snippet', 'text', NULL, false, NULL,
    'first words of the body, at most 280 characters'),
  ('processed_data', 'interaction_timeline', 15, 'contact_id', 'text', NULL, false, NULL,
    'unified_contacts.id of the primary external participant or of the author'),
  ('processed_data', 'interaction_timeline', 16, 'owner_contact_id', 'text', NULL, false, NULL,
    'unified_contacts.id of the colleague who owns or hosts it'),
  ('processed_data', 'interaction_timeline', 17, 'company_id', 'text', NULL, false, NULL,
    'HubSpot id of the first company'),
  ('processed_data', 'interaction_timeline', 18, 'deal_id', 'text', NULL, false, NULL,
    'HubSpot id of the first deal'),
  ('processed_data', 'interaction_timeline', 19, 'sentiment', 'text', NULL, false, NULL,
    'sentiment label, NULL until scored'),
  ('processed_data', 'interaction_timeline', 20, 'sentiment_score', 'real', NULL, false, NULL,
    'sentiment from -1 (negative) to 1 (positive), NULL until scored'),
  ('processed_data', 'interaction_timeline', 21, 'is_private', 'boolean', NULL, true, 'false',
    'whether the interaction is private in its system'),
  ('processed_data', 'interaction_timeline', 22, 'source_url', 'text', NULL, false, NULL,
    'address of the interaction in its system'),
  ('processed_data', 'interaction_timeline', 23, 'source_published_at', 'timestamptz', NULL, false, NULL,
    'publication time of the document that the row was made from'),
  ('processed_data', 'interaction_timeline', 24, 'created_at', 'timestamptz', NULL, false, NULL,
    'when the interaction was created in its system'),
  ('processed_data', 'interaction_timeline', 25, 'updated_at', 'timestamptz', NULL, false, NULL,
    'when the interaction was last modified in its system'),
  ('processed_data', 'interaction_timeline', 26, 'doc_hash', 'bytea', NULL, false, NULL,
    'hash of the source values that the row was made from'),
  ('processed_data', 'interaction_timeline', 27, 'is_deleted', 'boolean', NULL, true, 'false',
    'whether the interaction was deleted in its system'),
  ('processed_data', 'interaction_timeline', 28, 'duplicate_of', 'text', NULL, false, NULL,
    'id of the row that shows the same event from another system'),
  ('processed_data', 'interaction_timeline', 29, 'parent_id', 'text', NULL, false, NULL,
    'id of the row that began the thread; NULL for that one, and where there is none'),
  ('processed_data', 'interaction_timeline', 30, 'company_ids', 'text[]', NULL, false, NULL,
    'HubSpot ids of all companies, NULL where there is none'),
  ('processed_data', 'interaction_timeline', 31, 'deal_ids', 'text[]', NULL, false, NULL,
    'HubSpot ids of all deals, NULL where there is none');

-- processed_data.interaction_participants: written by refresh
INSERT INTO sophia.table_columns
  (table_schema, table_name, ordinal, column_name, column_type, key_position, not_null, column_default, comment)
VALUES
  ('processed_data', 'interaction_participants', 1, 'interaction_id', 'text', 1, true, NULL,
    'interaction_timeline.id'),
  ('processed_data', 'interaction_participants', 2, 'ordinal', 'integer', 2, true, NULL,
    'position within the interaction, from 1'),
  ('processed_data', 'interaction_participants', 3, 'contact_id', 'text', NULL, false, NULL,
    'unified_contacts.id; NULL where the participant is no known contact'),
  ('processed_data', 'interaction_participants', 4, 'role', 'text', NULL, true, NULL,
    'from, to, cc, bcc, attendee, host, speaker, author, mentioned or associated'),
  ('processed_data', 'interaction_participants', 5, 'email_norm', 'text', NULL, false, NULL,
    'normalised e-mail address'),
  ('processed_data', 'interaction_participants', 6, 'name', 'text', NULL, false, NULL,
    'name'),
  ('processed_data', 'interaction_participants', 7, 'affiliation', 'text', NULL, false, NULL,
    'internal, external or unknown'),
  ('processed_data', 'interaction_participants', 8, 'speaker_id', 'text', NULL, false, NULL,
    'id by which the transcript names the participant'),
  ('processed_data', 'interaction_participants', 9, 'talk_seconds', 'integer', NULL, false, NULL,
    'how long the participant spoke, in seconds'),
  ('processed_data', 'interaction_participants', 10, 'occurred_at', 'timestamptz', NULL, false, NULL,
    'when the interaction happened, so that those of a contact are found in order');

-- processed_data.identities, identity_links and contacts: written by resolve_identities
INSERT INTO sophia.table_columns
  (table_schema, table_name, ordinal, column_name, column_type, key_position, not_null, column_default, comment)
VALUES
  ('processed_data', 'identities', 1, 'identity_id', 'bigint', 1, true, NULL,
    'number of the person, never given twice'),
  ('processed_data', 'identities', 2, 'status', 'text', NULL, true, NULL,
    'active, merged (into merged_into) or retired (no record of it is left)'),
  ('processed_data', 'identities', 3, 'merged_into', 'bigint', NULL, false, NULL,
    'the active identity that holds the records now, where status is merged'),
  ('processed_data', 'identities', 4, 'size', 'integer', NULL, true, NULL,
    'number of source records; 0 unless active'),
  ('processed_data', 'identities', 5, 'primary_contact_id', 'text', NULL, true, NULL,
    'unified_contacts.id of the record that the identity began with: it keeps the identity when records part'),
  ('processed_data', 'identities', 6, 'heir_contact_id', 'text', NULL, false, NULL,
    'the record that took its place when it vanished from unified_contacts; NULL while it is there'),
  ('processed_data', 'identities', 7, 'created_at', 'timestamptz', NULL, true, NULL,
    'when the identity was made'),
  ('processed_data', 'identities', 8, 'updated_at', 'timestamptz', NULL, true, NULL,
    'when status, merged_into or size last changed');

INSERT INTO sophia.table_columns
  (table_schema, table_name, ordinal, column_name, column_type, key_position, not_null, column_default, comment)
VALUES
  ('processed_data', 'identity_links', 1, 'contact_id', 'text', 1, true, NULL,
    'unified_contacts.id of the record'),
  ('processed_data', 'identity_links', 2, 'kind', 'text', 2, true, NULL,
    'kind of identifier, or record for a link between two records'),
  ('processed_data', 'identity_links', 3, 'evidence', 'text', 3, true, NULL,
    'value of the identifier, or the other record'),
  ('processed_data', 'identity_links', 4, 'qualifier', 'text', NULL, true, NULL,
    'what has to agree as well: the last name beside a phone number, otherwise empty'),
  ('processed_data', 'identity_links', 5, 'identity_id', 'bigint', NULL, true, NULL,
    'identity of the record'),
  ('processed_data', 'identity_links', 6, 'rule', 'text', NULL, true, NULL,
    'rule that tells the identifier or the link'),
  ('processed_data', 'identity_links', 7, 'confidence', 'real', NULL, true, NULL,
    'how sure the rule is, up to 1'),
  ('processed_data', 'identity_links', 8, 'status', 'text', NULL, true, NULL,
    'linked, refused (it would have broken a limit or a decision), blocked (too many records share the value) or contested (an alias that several Gong users have)'),
  ('processed_data', 'identity_links', 9, 'created_at', 'timestamptz', NULL, true, NULL,
    'when the link was found');

INSERT INTO sophia.table_columns
  (table_schema, table_name, ordinal, column_name, column_type, key_position, not_null, column_default, comment)
VALUES
  ('processed_data', 'contacts', 1, 'identity_id', 'bigint', 1, true, NULL,
    'number of the person'),
  ('processed_data', 'contacts', 2, 'email', 'text', NULL, false, NULL,
    'primary e-mail address as its source holds it'),
  ('processed_data', 'contacts', 3, 'first_name', 'text', NULL, false, NULL,
    'first name'),
  ('processed_data', 'contacts', 4, 'last_name', 'text', NULL, false, NULL,
    'last name'),
  ('processed_data', 'contacts', 5, 'full_name', 'text', NULL, false, NULL,
    'full name'),
  ('processed_data', 'contacts', 6, 'company_name', 'text', NULL, false, NULL,
    'name of the company'),
  ('processed_data', 'contacts', 7, 'job_title', 'text', NULL, false, NULL,
    'job title'),
  ('processed_data', 'contacts', 8, 'phone', 'text', NULL, false, NULL,
    'phone number as its source holds it'),
  ('processed_data', 'contacts', 9, 'created_at', 'timestamptz', NULL, false, NULL,
    'when the first record of the person was created in its system'),
  ('processed_data', 'contacts', 10, 'updated_at', 'timestamptz', NULL, false, NULL,
    'when a record of the person was last modified in its system'),
  ('processed_data', 'contacts', 11, 'email_norm', 'text', NULL, false, NULL,
    'normalised form of email'),
  ('processed_data', 'contacts', 12, 'email_domain', 'text', NULL, false, NULL,
    'domain of email_norm'),
  ('processed_data', 'contacts', 13, 'phone_e164', 'text', NULL, false, NULL,
    'phone number in E.164 form, of the record that gives phone'),
  ('processed_data', 'contacts', 14, 'all_emails', 'text[]', NULL, true, NULL,
    'every normalised e-mail address of the person'),
  ('processed_data', 'contacts', 15, 'owner_id', 'text', NULL, false, NULL,
    'id of the owner in its system'),
  ('processed_data', 'contacts', 16, 'lifecycle_stage', 'text', NULL, false, NULL,
    'lifecycle stage in its system'),
  ('processed_data', 'contacts', 17, 'is_internal', 'boolean', NULL, true, NULL,
    'whether the person is a colleague'),
  ('processed_data', 'contacts', 18, 'is_deleted', 'boolean', NULL, true, NULL,
    'whether every record of the person was deleted or deactivated'),
  ('processed_data', 'contacts', 19, 'first_seen_at', 'timestamptz', NULL, false, NULL,
    'time of the first interaction'),
  ('processed_data', 'contacts', 20, 'last_seen_at', 'timestamptz', NULL, false, NULL,
    'time of the last interaction'),
  ('processed_data', 'contacts', 21, 'sources', 'text[]', NULL, true, NULL,
    'systems that know the person'),
  ('processed_data', 'contacts', 22, 'record_ids', 'text[]', NULL, true, NULL,
    'unified_contacts.id of every record of the person');

-- What no transform reads may follow the values that come.
UPDATE sophia.table_columns SET may_widen = true
  WHERE (table_schema, table_name, column_name) IN (
    ('hubspot_raw', 'deals', 'amount'), ('hubspot_raw', 'deals', 'closedate'),
    ('hubspot_raw', 'deals', 'is_closed_won'), ('slack_raw', 'channels', 'num_members'),
    ('slack_raw', 'messages', 'reply_count'));
