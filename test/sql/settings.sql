-- Settings and what they refuse.  Values are not shown: the server under test may have its own.
LOAD 'sophia_stack';
SELECT name, vartype, unit, context, min_val, max_val, boot_val FROM pg_settings
  WHERE name LIKE 'sophia\_stack.%' ORDER BY name COLLATE "C";

ALTER SYSTEM SET sophia_stack.fragment_directories = 'relative/folder';
ALTER SYSTEM SET sophia_stack.fragment_directories = '/srv/fragments,relative';
ALTER SYSTEM SET sophia_stack.secrets_directory = 'relative/folder';
ALTER SYSTEM SET sophia_stack.databases = 'a,,b';
ALTER SYSTEM SET sophia_stack.provider_hosts = 'a', 'b/c';
ALTER SYSTEM SET sophia_stack.provider_hosts = 'a', '*b';
ALTER SYSTEM SET sophia_stack.ingest_workers = 0;
ALTER SYSTEM SET sophia_stack.ingest_workers = 9;
ALTER SYSTEM SET sophia_stack.max_document_size = '1GB';
SET sophia_stack.enabled = off;

-- Only superusers see folders.
CREATE ROLE sophia_test_settings;
SET ROLE sophia_test_settings;
SHOW sophia_stack.fragment_directories;
SHOW sophia_stack.secrets_directory;
RESET ROLE;
DROP ROLE sophia_test_settings;
