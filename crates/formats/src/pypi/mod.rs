//! The PyPI Simple API (PEP 503, 629, 658, 691, 700, 714, 740, 792), read and written.

mod html;
mod negotiate;
mod read;
mod record;
mod render;

pub use negotiate::{Form, negotiate};
pub use read::{read_project_html, read_project_json, read_projects_html, read_projects_json};
pub use record::file_record;
pub use render::{project_html, project_json, projects_html, projects_json};
